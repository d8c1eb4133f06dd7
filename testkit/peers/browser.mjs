// A person with a browser, for tests: goes to an address, fills in every form as somebody, and follows wherever it leads.
//
// node browser.mjs URL      with PERSON (the name to sign in with), DECLINE=1 to say no
//
// Ends with 0 when the last page was reached; prints its status and text.
const jar = new Map();
const person = process.env.PERSON ?? 'ann';
const decline = process.env.DECLINE === '1';

async function go(url, form) {
  const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
  const headers = { cookie, accept: 'text/html' };
  if (form) headers['content-type'] = 'application/x-www-form-urlencoded';
  const answer = await fetch(url, {
    method: form ? 'POST' : 'GET', headers, redirect: 'manual', body: form ? new URLSearchParams(form).toString() : undefined,
  });
  for (const line of answer.headers.getSetCookie()) {
    const [pair] = line.split(';');
    const at = pair.indexOf('=');
    const value = pair.slice(at + 1);
    if (value) jar.set(pair.slice(0, at), value); else jar.delete(pair.slice(0, at));
  }
  const location = answer.headers.get('location');
  const text = await answer.text();
  return location ? { next: new URL(location, url).href } : { status: answer.status, text, url };
}

function fields(form) {
  const found = {};
  for (const [input] of form.matchAll(/<input\b[^>]*>/g)) {
    const attribute = (name) => input.match(new RegExp(`\\b${name}="([^"]*)"`))?.[1];
    if (attribute('name')) found[attribute('name')] = attribute('value') ?? '';
  }
  return found;
}

let page = { next: process.argv[2] };
for (let step = 0; step < 40; step += 1) {
  if (page.next) {
    page = await go(page.next);
    continue;
  }
  const form = page.text.match(/<form\b[^>]*>[\s\S]*?<\/form>/)?.[0];
  if (!form) break;
  const target = form.match(/\baction="([^"]*)"/)?.[1].replaceAll('&amp;', '&') ?? page.url;
  const filled = fields(form);
  if ('login' in filled) Object.assign(filled, { login: person, password: 'x' });
  if (decline) {
    const abort = page.text.match(/href="([^"]*abort[^"]*)"/)?.[1];
    if (abort) { page = { next: new URL(abort, page.url).href }; continue; }
    if (form.includes('abort')) filled.abort = 'yes';
  }
  page = await go(new URL(target, page.url).href, filled);
}
console.log(page.status, (page.text ?? '').replace(/<style[\s\S]*?<\/style>|<[^>]*>/g, ' ').replace(/\s+/g, ' ').trim());
process.exit(page.status === 200 ? 0 : 1);
