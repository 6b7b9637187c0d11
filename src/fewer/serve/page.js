const form = document.querySelector('#controls'), state = document.querySelector('#state');
const grids = document.querySelector('.grids.live'), notes = document.querySelector('#notes');
const field = name => form.elements.namedItem(name);
const asked = ['plan', 'against', 'seed', 'n', 'label'].filter(field);

const say = (text, wrong) => { state.textContent = text; state.classList.toggle('wrong', wrong); };

const query = () => {
  const found = new URLSearchParams();
  for (const name of asked) if (field(name).value !== '') found.set(name, field(name).value);
  return found.toString();
};

const follow = () => {
  const range = field('front'), plan = field('plan');
  if (range) {
    if (plan.value <= range.max) range.value = plan.value;
    range.parentNode.querySelector('output').textContent = plan.selectedOptions[0].dataset.calls;
  }
  field('seeds').value = field('seed').value;
  document.querySelectorAll('[data-plan]').forEach(e => { e.hidden = e.dataset.plan !== plan.value; });
};

const draw = (id, sheet, title, caption) => {
  const figure = document.getElementById(id), image = figure.querySelector('img');
  Object.assign(image, {src: sheet.uri, width: sheet.width, height: sheet.height, hidden: false});
  image.classList.toggle('small', sheet.small);
  figure.querySelector('b').textContent = title;
  figure.querySelector('span').textContent = caption;
};

const show = found => {
  for (const id of ['plan', 'against']) {
    const side = found[id], calls = side.nfe === 1 ? '1 network evaluation' : side.nfe + ' network evaluations';
    draw(id, side, side.name, calls + ', ' + side.seconds + ' s for all');
  }
  draw('difference', found.difference, 'Where they differ', 'RMSE between the two: ' + found.rmse + ' (data units)');
  notes.replaceChildren(...found.notes.map(note => Object.assign(document.createElement('li'), {textContent: note})));
};

// one request at a time: while it runs only the last of the further ones is kept, so that a slider leaves no queue
let running = false, waiting = false;
const update = async () => {
  follow();
  if (running) { waiting = true; return; }
  running = true;
  grids.classList.add('busy');
  do {
    waiting = false;
    const now = query();
    history.replaceState(null, '', '?' + now);
    try {
      const answer = await fetch('/samples?' + now);
      if (answer.ok) { show(await answer.json()); say('', false); } else say((await answer.text()).trim(), true);
    } catch { say('The server does not answer: has fewer serve ended?', true); }
  } while (waiting);
  running = false;
  grids.classList.remove('busy');
};

const upload = async () => {
  const file = field('file').files[0];
  if (!file) return;
  try {
    const answer = await fetch('/plans', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: file});
    if (!answer.ok) { say((await answer.text()).trim(), true); return; }
    const found = new URLSearchParams(query());
    found.set('plan', (await answer.json()).plan);
    location.search = found.toString();
  } catch { say('The plan could not be sent.', true); }
};

for (const [name, value] of new URLSearchParams(location.search)) if (asked.includes(name)) field(name).value = value;
if (field('plan').selectedIndex < 0) field('plan').selectedIndex = 0;
if (field('against').selectedIndex < 0) field('against').selectedIndex = 0;
if (field('n').selectedIndex < 0) field('n').value = '4';
form.addEventListener('submit', event => event.preventDefault());
form.addEventListener('input', event => {
  const {name, value} = event.target;
  if (name === 'file') { upload(); return; }
  if (name === 'front') field('plan').value = value;
  if (name === 'seeds') field('seed').value = value;
  update();
});
update();
