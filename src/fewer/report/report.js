document.querySelectorAll('.budget').forEach(box => {
  const range = box.querySelector('input'), said = box.querySelector('output');
  const show = () => {
    said.textContent = box.dataset.labels.split('|')[range.value];
    range.setAttribute('aria-valuetext', said.textContent);
    document.querySelectorAll('[data-entry]').forEach(e => { e.hidden = e.dataset.entry !== range.value; });
    document.querySelectorAll('[data-point]').forEach(e => e.classList.toggle('on', e.dataset.point === range.value));
  };
  range.addEventListener('input', show);
  box.hidden = false;
  show();
});
document.querySelectorAll('th[data-sort]').forEach(head => {
  head.tabIndex = 0;
  const sort = () => {
    const rows = head.closest('table').tBodies[0], up = head.getAttribute('aria-sort') !== 'ascending';
    const key = row => { const c = row.cells[head.cellIndex]; return c.dataset.v === undefined ? c.textContent : parseFloat(c.dataset.v); };
    const order = (a, b) => typeof a === 'number' ? a - b : a.localeCompare(b, undefined, {numeric: true});
    const missing = v => typeof v === 'number' && isNaN(v);
    [...rows.rows].sort((p, q) => {
      const a = key(p), b = key(q);
      return missing(a) || missing(b) ? missing(a) - missing(b) : order(a, b) * (up ? 1 : -1);
    }).forEach(row => rows.append(row));
    head.parentNode.querySelectorAll('th').forEach(h => h.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  };
  head.addEventListener('click', sort);
  head.addEventListener('keydown', e => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); sort(); } });
});
