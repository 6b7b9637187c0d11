// A field above every long table that leaves those rows that hold all words typed; without scripts the tables are whole.
document.querySelectorAll('.md-typeset table:not([class])').forEach(table => {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 12) return;
  const rows = [...body.rows].map(row => [row, row.textContent.toLowerCase()]);
  const field = Object.assign(document.createElement('input'), {type: 'search', className: 'filter', placeholder: 'Filter: words of any column'});
  const said = Object.assign(document.createElement('span'), {className: 'filter-said'});
  field.setAttribute('aria-label', 'Filter the table');
  said.setAttribute('role', 'status');
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    said.textContent = words.length ? shown + ' of ' + rows.length : '';
  };
  field.addEventListener('input', show);
  const bar = Object.assign(document.createElement('p'), {className: 'filter-bar'});
  bar.append(field, said);
  (table.closest('.md-typeset__scrollwrap') || table).before(bar);
  const asked = new URLSearchParams(location.search).get('filter');
  if (asked) { field.value = asked; show(); }
});
