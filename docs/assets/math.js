// Typesets what pymdownx.arithmatex has marked; without scripts the TeX stays readable as it is written.
const typeset = () => document.querySelectorAll('.arithmatex').forEach(span => {
  const found = /^\\([([])([^]*)\\[)\]]$/.exec(span.textContent.trim());
  if (found) katex.render(found[2], span, {displayMode: found[1] === '[', throwOnError: false});
});
typeset();
