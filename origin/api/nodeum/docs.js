const value = id => document.getElementById(id).value;
function credentials() {
  if (value('token')) return 'Bearer ' + value('token');
  if (!value('user')) return null;
  const bytes = new TextEncoder().encode(value('user') + ':' + value('password'));
  return 'Basic ' + btoa(String.fromCharCode(...bytes));
}
async function attempt(form) {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  for (const field of form.querySelectorAll('[data-in]')) {
    if (field.dataset.in === 'path') path = path.replace('{' + field.name + '}', encodeURIComponent(field.value));
    else if (field.value !== '') query.append(field.name, field.value);
  }
  const headers = {}, options = {method: form.dataset.method, headers};
  const who = credentials();
  if (who) headers['Authorization'] = who;
  const body = form.querySelector('textarea');
  if (body) { headers['Content-Type'] = 'application/json'; options.body = body.value; }
  const shown = form.querySelector('pre'), target = path + (query.size ? '?' + query : '');
  shown.textContent = form.dataset.method + ' ' + target;
  try {
    const answer = await fetch(target, options), text = await answer.text();
    let pretty = text;
    try { pretty = JSON.stringify(JSON.parse(text), null, 2); } catch {}
    shown.textContent += '\n' + answer.status + ' ' + answer.statusText + '\n\n' + pretty;
  } catch (error) { shown.textContent += '\n' + error; }
}
for (const form of document.querySelectorAll('form[data-path]'))
  form.addEventListener('submit', event => { event.preventDefault(); attempt(form); });
