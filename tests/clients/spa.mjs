// Drives examples/spa as a person would: a wrong password, the right one, the protected data, another device ended, signing out.
// Told by environment variables where to go: MEZU_URL, MEZU_LOGIN, MEZU_HOST, MEZU_EMAIL, MEZU_PASSWORD. Leaves pictures in MEZU_PICTURES.
import { createHash, randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(new URL('../browser/package.json', import.meta.url));
const { chromium } = require('playwright-core');

const { MEZU_URL: url, MEZU_LOGIN: login, MEZU_HOST: host, MEZU_EMAIL: email, MEZU_PASSWORD: password } = process.env;

function expect(what, holds) {
  if (!holds) throw new Error(what);
}

const browser = await chromium.launch({
  executablePath: process.env.MEZU_CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});

try {
  // The installation's own CA signed the certificates; curl and the Rust clients check them.
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const shoot = (name) => page.screenshot({ path: join(process.env.MEZU_PICTURES, `spa-${name}.png`), fullPage: true });
  const faults = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (line) => {
    // Browsers write each answer of 4xx to the console; those are the application's own to tell.
    if (line.type() === 'error' && !line.text().includes('status of 4')) faults.push(line.text());
  });

  await page.goto(url);
  await page.getByLabel('E-mail address').fill(email);
  await page.getByLabel('Password').fill('not the password at all');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('do not match').waitFor();
  await shoot('wrong');

  // Another device of the same person, by the API alone.
  const state = createHash('sha256').update(randomBytes(32)).digest('base64url');
  const elsewhere = await browser.newContext({ ignoreHTTPSErrors: true });
  const tablet = await elsewhere.newPage();
  await tablet.goto(`${url}.mezu/whoami`);
  const device = (path, body) => tablet.evaluate(async ([address, body]) => {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    return (await fetch(address, init)).json();
  }, [`${login}/api/v1${path}`, body]);
  const { flow } = await device('/sign-in', { host, state_hash: state });
  expect('the other device signs in', (await device('/sign-in/password', { flow, email, password })).next === 'done');

  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'Hello, Ada Lovelace' }).waitFor();
  await page.locator('#data').getByText(email).waitFor();
  await page.locator('#sign-ins li').nth(1).waitFor();
  await shoot('inside');

  const cookies = await context.cookies(url);
  const session = cookies.find((cookie) => cookie.name === '__Host-mezu-session');
  expect('the session is a cookie out of reach of scripts', session?.httpOnly && session?.secure);
  expect('and nothing is set at the login host', (await context.cookies(login)).length === 0);
  const kept = await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length);
  expect('nothing is kept where scripts find it', kept === 0);

  await page.getByRole('button', { name: 'End' }).click();
  await page.waitForFunction(() => document.querySelectorAll('#sign-ins li').length === 1);

  // Loaded anew, the session is enough.
  await page.reload();
  await page.getByRole('heading', { name: 'Hello, Ada Lovelace' }).waitFor();
  await page.locator('#data').getByText(email).waitFor();

  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'You are signed out' }).waitFor();
  const after = await page.evaluate(async () => (await fetch('/api/me')).status);
  expect(`the API says ${after} after signing out`, after === 401);
  await page.goto(url);
  await page.getByLabel('E-mail address').waitFor();
  await shoot('signed-out');

  // A page of another application, whose accounts are others, may not ask.
  const other = await browser.newContext({ ignoreHTTPSErrors: true });
  const stranger = await other.newPage();
  await stranger.goto(process.env.MEZU_OTHER);
  const asked = await stranger.evaluate(async ([login, host, state_hash]) => {
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ host, state_hash }) };
    return fetch(`${login}/api/v1/sign-in`, init).then((answer) => answer.status, () => 'unreadable');
  }, [login, host, state]);
  expect(`a page of another application got ${asked}`, asked === 403 || asked === 'unreadable');

  expect(`the page had faults: ${faults.join('; ')}`, faults.length === 0);
  console.log('signed in by the JSON API, read protected data, ended another device, signed out');
} finally {
  await browser.close();
}
