// Every hosted flow of sign-in, as people do them in chromium, with the mails they bring. Prints a JSON line for each.
//
// Told by environment variables: MEZU_LOGIN (the login host's origin), MEZU_SHOP and MEZU_WIKI (two applications of one
// directory, open to sign-up), MEZU_CLUB (for addresses of club.example), MEZU_VAULT (for whoever is invited), MEZU_MAILS
// (the mail server's file), MEZU_ADMIN (a socket of the admin API), MEZU_DATABASE (its SQLite file, to let time pass),
// MEZU_PICTURES (optional: a folder).
import { execFileSync } from 'node:child_process';
import { request } from 'node:http';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(new URL('../browser/package.json', import.meta.url));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const {
  MEZU_LOGIN: login, MEZU_SHOP: shop, MEZU_WIKI: wiki, MEZU_CLUB: club, MEZU_VAULT: vault, MEZU_MAILS: mailFile,
  MEZU_ADMIN: socket, MEZU_DATABASE: database, MEZU_PICTURES: pictures,
} = process.env;
const say = (line) => console.log(JSON.stringify(line));
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const must = (fact, what) => { if (!fact) throw new Error(what); };

const browser = await chromium.launch({
  executablePath: process.env.MEZU_CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});

// A browser of somebody's own: another profile shares nothing with it.
const contexts = [];
const person = async (options = {}) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  contexts.push(context);
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  return page;
};

// What axe-core finds on each page, and a picture of it, once under each name.
const looked = new Set();
const faults = [];
const look = async (page, name) => {
  if (looked.has(name)) return;
  looked.add(name);
  if (pictures) await page.screenshot({ path: join(pictures, `flow-${name}.png`), fullPage: true });
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'] })`);
  for (const { id, impact, nodes } of found.violations) {
    if (impact === 'serious' || impact === 'critical') faults.push(`${name}: ${id} (${nodes[0].html})`);
  }
};

// The nth mail to an address.
const mail = async (to, subject, within = 10_000) => {
  for (const end = Date.now() + within; Date.now() < end; await sleep(50)) {
    let lines = [];
    try { lines = readFileSync(mailFile, 'utf8').trim().split('\n').map((line) => JSON.parse(line)); } catch { continue; }
    const found = lines.filter((line) => line.recipients[0] === to && line.subject.includes(subject));
    if (found.length) return found.at(-1);
  }
  throw new Error(`no mail "${subject}" to ${to}`);
};
const link = async (to, subject) => {
  const [first] = (await mail(to, subject)).links;
  must(first.startsWith(`${login}/`), `the link leads to ${first}`);
  return first;
};

const admin = (method, path, body = {}) => new Promise((resolve, reject) => {
  const text = JSON.stringify(body);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), host: 'localhost' };
  const asked = request({ socketPath: socket, method, path: `/api/v1${path}`, headers }, (answer) => {
    let said = '';
    answer.on('data', (piece) => { said += piece; });
    answer.on('end', () => (answer.statusCode < 300 ? resolve(said) : reject(new Error(`${method} ${path}: ${said}`))));
  });
  asked.on('error', reject);
  asked.end(text);
});

const heading = async (page) => (await page.locator('h1').textContent()).trim();
const press = (page, name) => page.getByRole('button', { name, exact: true }).first().click();
const email = (page) => page.getByLabel('E-mail address');
const onApp = (page, origin) => page.waitForURL((url) => url.origin === origin && !url.pathname.startsWith('/.mezu/'));
const told = async (page) => JSON.parse(await page.locator('body').innerText());
const caller = async (page) => (await told(page)).headers['mezu-user-email']?.[0];

const signIn = async (page, to, who, password) => {
  await page.goto(to);
  await email(page).fill(who);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await press(page, 'Sign in');
};
const choose = async (page, password, name) => {
  if (name) await page.getByLabel('Your name').fill(name);
  await page.getByLabel('New password', { exact: true }).fill(password);
  await page.getByLabel('New password, once more').fill(password);
};
const account = async (page) => { await page.goto(`${login}/account`); return page.url(); };

const ADA = 'ada@shop.example';
const FIRST = 'plum koala nine rulers';
const SECOND = 'seven copper lanterns drift';
const THIRD = 'quiet harbour eleven maps';
let ada;

const flows = {
  async sign_up_open() {
    ada = await person();
    await ada.goto(`${shop}/told`);
    must(ada.url().startsWith(`${login}/sign-in`), `sent to ${ada.url()}`);
    await look(ada, 'sign-in');
    await ada.getByRole('link', { name: 'Create an account' }).click();
    await look(ada, 'sign-up');
    await email(ada).fill(ADA);
    await press(ada, 'Send the link');
    must(await heading(ada) === 'Check your mail', await heading(ada));
    await look(ada, 'sign-up-sent');
    await ada.goto(await link(ADA, 'Finish your account'));
    await look(ada, 'sign-up-choose');
    await choose(ada, 'short', 'Ada Lovelace');
    await press(ada, 'Create the account');
    await ada.getByRole('alert').waitFor();
    await look(ada, 'sign-up-too-short');
    await choose(ada, FIRST, 'Ada Lovelace');
    await press(ada, 'Create the account');
    await onApp(ada, shop);
    must(await caller(ada) === ADA, 'the application reads another name');
  },
  async two_hosts_one_sign_in() {
    await ada.goto(`${wiki}/told`);
    must(await caller(ada) === ADA, `at ${ada.url()}`);
  },
  async sign_up_of_who_has_an_account_says_the_same() {
    const page = await person();
    await page.goto(`${shop}/told`);
    await page.getByRole('link', { name: 'Create an account' }).click();
    await email(page).fill(ADA);
    await press(page, 'Send the link');
    must(await heading(page) === 'Check your mail', await heading(page));
    must((await mail(ADA, 'have an account')).links.length === 0, 'a link');
  },
  async sign_up_by_domain() {
    const page = await person();
    await page.goto(`${club}/told`);
    await page.getByRole('link', { name: 'Create an account' }).click();
    await email(page).fill('eve@elsewhere.example');
    await press(page, 'Send the link');
    await page.getByRole('alert').waitFor();
    await look(page, 'sign-up-wrong-domain');
    await email(page).fill('bob@club.example');
    await press(page, 'Send the link');
    await page.goto(await link('bob@club.example', 'Finish your account'));
    await choose(page, FIRST, 'Bob');
    await press(page, 'Create the account');
    await onApp(page, club);
    // Another directory: Ada is nobody there.
    await ada.goto(`${club}/told`);
    must(ada.url().startsWith(`${login}/sign-in`), `at ${ada.url()}`);
  },
  async invitation() {
    await admin('POST', '/projects/vault/invitations', { email: 'carol@vault.example', by: 'Grace Hopper' });
    const invitation = await mail('carol@vault.example', 'invited');
    must(invitation.text.includes('Grace Hopper'), invitation.text);
    const page = await person();
    await page.goto(`${vault}/told`);
    must(await page.getByRole('link', { name: 'Create an account' }).count() === 0, 'sign-up is offered');
    await page.goto(invitation.links[0]);
    await look(page, 'invitation');
    await choose(page, FIRST, 'Carol');
    await press(page, 'Accept and sign in');
    await page.waitForLoadState();
    await page.goto(`${vault}/told`);
    must(await caller(page) === 'carol@vault.example', `at ${page.url()}`);
    const again = await person();
    await again.goto(invitation.links[0]);
    must(await heading(again) === 'This link no longer works', await heading(again));
  },
  async forgotten_password() {
    const page = await person();
    await page.goto(`${shop}/told`);
    await page.getByRole('link', { name: 'Forgotten your password?' }).click();
    await look(page, 'recover');
    await email(page).fill('nobody@shop.example');
    await press(page, 'Send the link');
    const nobody = await page.locator('main').innerText();
    await page.goto(`${shop}/told`);
    await page.getByRole('link', { name: 'Forgotten your password?' }).click();
    await email(page).fill(ADA);
    await press(page, 'Send the link');
    must(nobody.replaceAll('nobody@shop.example', ADA) === await page.locator('main').innerText(), 'two answers (R13)');
    await look(page, 'recover-sent');
    const to = await link(ADA, 'Choose a new password');
    await page.goto(to);
    await look(page, 'recover-choose');
    await choose(page, SECOND);
    await press(page, 'Save the password');
    must(await heading(page) === 'Your password is changed', await heading(page));
    await look(page, 'recovered');
    await mail(ADA, 'password for');
    // No sign-in comes of it (R17), and the link is spent.
    await page.goto(`${shop}/told`);
    must(page.url().startsWith(`${login}/sign-in`), `at ${page.url()}`);
    await page.goto(to);
    must(await heading(page) === 'This link no longer works', await heading(page));
    await look(page, 'link-dead');
    // Every sign-in has ended.
    for (let tries = 0; tries < 50 && !ada.url().startsWith(login); tries += 1) { await ada.goto(`${shop}/told`); await sleep(100); }
    must(ada.url().startsWith(`${login}/sign-in`), `still at ${ada.url()}`);
    await signIn(ada, `${shop}/told?here`, ADA, FIRST);
    await ada.getByRole('alert').waitFor();
    await look(ada, 'sign-in-wrong');
    await signIn(ada, `${shop}/told?here`, ADA, SECOND);
    await onApp(ada, shop);
    must(ada.url() === `${shop}/told?here`, ada.url());
  },
  async change_password() {
    const other = await person();
    await signIn(other, `${shop}/told`, ADA, SECOND);
    await onApp(other, shop);
    const home = await account(ada);
    await look(ada, 'account');
    await ada.getByRole('link', { name: 'Change your password' }).click();
    await look(ada, 'change-password');
    await ada.getByLabel('Current password').fill(SECOND);
    await choose(ada, THIRD);
    await press(ada, 'Change the password');
    await ada.getByRole('status').waitFor();
    await look(ada, 'password-changed');
    for (let tries = 0; tries < 50 && !other.url().startsWith(login); tries += 1) { await other.goto(`${shop}/told`); await sleep(100); }
    must(other.url().startsWith(`${login}/sign-in`), 'another browser is signed in still');
    await ada.goto(`${login}/account`);
    must(ada.url() === home, 'this browser was signed out');
  },
  async sessions_ended_one_and_all_others() {
    const others = [await person(), await person()];
    for (const other of others) {
      await signIn(other, `${shop}/told`, ADA, THIRD);
      await onApp(other, shop);
    }
    await account(ada);
    await ada.getByRole('link', { name: 'Manage where you are signed in' }).click();
    await look(ada, 'sessions');
    must(await ada.getByRole('button', { name: 'Sign out', exact: true }).count() === 2, 'not two others');
    await press(ada, 'Sign out');
    await ada.getByRole('status').waitFor();
    must(await ada.getByRole('button', { name: 'Sign out', exact: true }).count() === 1, 'not one other');
    await press(ada, 'Sign out all others');
    await ada.getByRole('status').waitFor();
    await look(ada, 'sessions-ended');
    must(await ada.getByRole('button', { name: 'Sign out', exact: true }).count() === 0, 'others are left');
    for (const other of others) {
      for (let tries = 0; tries < 50 && !other.url().startsWith(login); tries += 1) { await other.goto(`${shop}/told`); await sleep(100); }
      must(other.url().startsWith(`${login}/sign-in`), 'another browser is signed in still');
    }
  },
  async history() {
    await account(ada);
    await ada.getByRole('link', { name: 'History of your sign-ins' }).click();
    // Written in batches.
    for (let tries = 0; tries < 40 && await ada.getByText('Password changed').count() === 0; tries += 1) { await sleep(250); await ada.reload(); }
    await look(ada, 'history');
    const missing = new Set(['Signed in', 'Wrong password', 'Password changed']);
    for (let pages = 0; pages < 5; pages += 1) {
      for (const what of missing) if (await ada.getByText(what).count() > 0) missing.delete(what);
      const older = ada.getByRole('link', { name: 'Older' });
      if (missing.size === 0 || await older.count() === 0) break;
      await older.click();
    }
    must(missing.size === 0, `not listed: ${[...missing]}`);
  },
  async change_name() {
    await account(ada);
    await ada.getByRole('link', { name: 'Change your name' }).click();
    await look(ada, 'change-name');
    await ada.getByLabel('Your name').fill('Łukasz 李 “A” <b>');
    await press(ada, 'Save');
    await ada.getByText('Łukasz 李 “A” <b>').waitFor();
  },
  async change_email() {
    await account(ada);
    await ada.getByRole('link', { name: 'Change your e-mail address' }).click();
    await look(ada, 'change-email');
    await ada.getByLabel('New e-mail address').fill('ada@new.example');
    await ada.getByLabel(/password/i).last().fill(THIRD);
    await press(ada, 'Send the link');
    must(await heading(ada) === 'Check your mail', await heading(ada));
    await look(ada, 'change-email-sent');
    await ada.goto(await link('ada@new.example', 'new address'));
    await look(ada, 'change-email-confirm');
    await press(ada, 'Use this address');
    must(await heading(ada) === 'Your address is changed', await heading(ada));
    await look(ada, 'email-changed');
    must((await mail(ADA, 'address for')).text.includes('ada@new.example'), 'the old address is not told');
    const page = await person();
    await signIn(page, `${shop}/told`, 'ada@new.example', THIRD);
    await onApp(page, shop);
  },
  async a_link_that_is_too_old() {
    const page = await person();
    await page.goto(`${shop}/told`);
    await page.getByRole('link', { name: 'Forgotten your password?' }).click();
    await email(page).fill('ada@new.example');
    await press(page, 'Send the link');
    const to = await link('ada@new.example', 'Choose a new password');
    await page.goto(to);
    await choose(page, SECOND);
    // Half an hour passes, with the form open.
    const grow = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=10); "
      + "db.execute('UPDATE links SET expires_at = created_at WHERE email = ?', (sys.argv[2],)); db.commit()";
    execFileSync('python3', ['-c', grow, database, 'ada@new.example']);
    await press(page, 'Save the password');
    must(await heading(page) === 'This link no longer works', await heading(page));
    await look(page, 'link-too-old');
    await page.goto(to);
    must(await heading(page) === 'This link no longer works', await heading(page));
    await signIn(page, `${shop}/told`, 'ada@new.example', THIRD);
    await onApp(page, shop);
  },
  async verify_an_address_and_a_brand() {
    const dora = 'dora@vault.example';
    await admin('POST', '/projects/vault/users', { email: dora, name: 'Dora', password: FIRST });
    const logo = 'iVBORw0KGgoAAAANSUhEUgAAAAgAAAACCAIAAADq9gq6AAAAEUlEQVR4nGPgiv+PFTHgkgAAI4AWgSzvIrgAAAAASUVORK5CYII=';
    await admin('PATCH', '/projects/vault/directory', { brand_name: 'Vault & Sons', colour: '#0a5fff', logo });
    const page = await person();
    await page.goto(`${vault}/told`);
    const picture = page.getByRole('img', { name: 'Vault & Sons' });
    must(await picture.evaluate((img) => img.complete && img.naturalWidth) === 8, 'the logo is not shown');
    await look(page, 'sign-in-branded');
    await signIn(page, `${vault}/told`, dora, FIRST);
    await onApp(page, vault);
    await account(page);
    await page.getByRole('link', { name: 'Confirm this address' }).click();
    must(new URL(page.url()).pathname.endsWith('/verify'), page.url());
    await look(page, 'verify');
    await press(page, 'Send the link');
    must(await heading(page) === 'Check your mail', await heading(page));
    await page.goto(await link(dora, 'Confirm your address'));
    await look(page, 'verify-confirm');
    await press(page, 'Confirm the address');
    must(await heading(page) === 'The address is confirmed', await heading(page));
    await account(page);
    must(await page.getByRole('link', { name: 'Confirm this address' }).count() === 0, 'not confirmed');
  },
  async asked_once_more_and_back_to_the_same_place() {
    const page = await person();
    await signIn(page, `${shop}/told?deep=1`, 'ada@new.example', THIRD);
    await onApp(page, shop);
    await sleep(2100);
    // What an edge asks for on a route with a limit of age, which cannot be under a minute.
    const kept = await page.context().cookies(login);
    await page.context().clearCookies();
    await page.goto(`${shop}/told?deep=2`);
    const asked = page.url();
    await page.context().clearCookies({ domain: new URL(login).hostname });
    await page.context().addCookies(kept);
    await page.goto(`${asked}&max_age=1`);
    must(await heading(page) === 'Confirm it’s you', await heading(page));
    await look(page, 'confirm');
    await page.getByLabel('Password', { exact: true }).fill('not this one at all');
    await press(page, 'Confirm');
    await page.getByRole('alert').waitFor();
    await look(page, 'confirm-wrong');
    await page.getByLabel('Password', { exact: true }).fill(THIRD);
    await press(page, 'Confirm');
    await onApp(page, shop);
    must(page.url() === `${shop}/told?deep=2`, page.url());
  },
  async another_account_from_the_refusal() {
    const page = await person();
    await signIn(page, `${shop}/staff/told`, 'ada@new.example', THIRD);
    await page.waitForURL(`${shop}/staff/told`);
    must((await page.locator('body').innerText()).includes('ada@new.example'), 'the page does not say which account');
    await look(page, 'refused');
    await page.getByRole('link', { name: /another account|switch/i }).or(page.getByRole('button', { name: /another account|switch/i })).first().click();
    await page.waitForLoadState();
    if (new URL(page.url()).origin === shop) { await look(page, 'switch'); await page.getByRole('button').first().click(); }
    await page.waitForURL((url) => url.origin === login);
    await look(page, 'switched');
    must(await email(page).count() === 1 || await page.getByText('Use another account').count() > 0, await heading(page));
  },
  async a_websocket_ends_with_4401_when_its_user_signs_out_elsewhere() {
    const [one, other] = [await person(), await person()];
    for (const page of [one, other]) {
      await signIn(page, `${shop}/told`, 'ada@new.example', THIRD);
      await onApp(page, shop);
    }
    await one.evaluate(() => new Promise((resolve, reject) => {
      const ws = new WebSocket(`wss://${location.host}/ws`);
      window.ended = new Promise((tell) => { ws.onclose = ({ code, reason }) => tell({ code, reason, at: Date.now() }); });
      ws.onopen = () => ws.send('hello');
      ws.onmessage = resolve;
      ws.onerror = () => reject(new Error('the socket failed'));
    }));
    await other.goto(`${login}/sign-out`);
    await look(other, 'sign-out');
    await press(other, 'Sign out everywhere');
    const at = Date.now();
    const ended = await Promise.race([one.evaluate(() => window.ended), sleep(5000).then(() => null)]);
    must(ended?.code === 4401, `after 5 s: ${JSON.stringify(ended)}`);
    must(ended.at - at < 5000, `${ended.at - at} ms`);
    await look(other, 'signed-out');
    must(await heading(other) === 'You are signed out', await heading(other));
    must(await other.getByRole('link', { name: 'Sign in again' }).getAttribute('href') === `${shop}/`, 'no way back');
    await one.goto(`${shop}/told`);
    must(one.url().startsWith(`${login}/sign-in`), `at ${one.url()}`);
  },
  async sign_out_here_then_back_button() {
    const page = await person();
    await signIn(page, `${shop}/told`, 'ada@new.example', THIRD);
    await onApp(page, shop);
    await page.goto(`${shop}/.mezu/sign-out`);
    await look(page, 'sign-out-app');
    await page.getByRole('button', { name: /sign out/i }).first().click();
    await page.waitForLoadState();
    await page.goBack();
    await page.goto(`${shop}/told`);
    must(page.url().startsWith(`${login}/sign-in`), `at ${page.url()}`);
    must(await email(page).count() === 1, 'signed in at the login host still');
  },
  async two_tabs() {
    const one = await person();
    await one.goto(`${shop}/told?tab=1`);
    const two = await one.context().newPage();
    await two.goto(`${shop}/told?tab=2`);
    for (const [page, tab] of [[one, 1], [two, 2]]) {
      await email(page).fill('ada@new.example');
      await page.getByLabel('Password', { exact: true }).fill(THIRD);
      await press(page, 'Sign in');
      await onApp(page, shop);
      must(page.url() === `${shop}/told?tab=${tab}`, page.url());
    }
    // Back to the form, and sent once more: no loop, no stack trace.
    await one.goBack();
    await one.waitForLoadState();
    if (await email(one).count() === 1) {
      await email(one).fill('ada@new.example');
      await one.getByLabel('Password', { exact: true }).fill(THIRD);
      await press(one, 'Sign in');
      await one.waitForLoadState();
    }
    await one.goto(`${shop}/told`);
    must(await caller(one) === 'ada@new.example', `at ${one.url()}`);
  },
  async cookies_off() {
    const page = await person();
    await page.goto(`${login}/sign-in`);
    await email(page).fill(ADA);
    await page.getByLabel('Password', { exact: true }).fill(THIRD);
    await page.context().clearCookies();
    await press(page, 'Sign in');
    await page.waitForLoadState();
    await look(page, 'cookies-off');
    must(await heading(page) === 'Cookies are switched off', await heading(page));
  },
  async nonsense_gets_a_page() {
    const page = await person();
    for (const path of ['/recover/xyz', `/recover/${'A'.repeat(43)}`, '/sign-up/%00', '/nowhere', '/sign-in?host=evil.example&return_to=/&state=x']) {
      const answer = await page.goto(login + path);
      must(answer.status() >= 400 && answer.status() < 500, `${path}: ${answer.status()}`);
      must((await heading(page)).length > 5, path);
    }
    await look(page, 'nonsense');
  },
};

try {
  for (const [feature, run] of Object.entries(flows)) {
    const began = Date.now();
    try {
      await run();
      say({ event: 'done', feature, ok: true, ms: Date.now() - began });
    } catch (why) {
      const where = contexts.at(-1)?.pages().at(-1);
      const page = where ? `${where.url()}: ${(await where.locator('body').innerText().catch(() => '')).slice(0, 300)}` : '';
      if (where && pictures) await where.screenshot({ path: join(pictures, `failed-${feature}.png`), fullPage: true }).catch(() => {});
      say({ event: 'done', feature, ok: false, why: `${String(why.message ?? why).split('\n').slice(0, 4).join(' ')} | ${page}` });
    }
    // Whoever was met only once leaves.
    for (const context of contexts.splice(0)) if (context !== ada?.context()) await context.close();
    if (ada) contexts.push(ada.context());
  }
  say({ event: 'done', feature: 'axe', ok: faults.length === 0, why: faults.join('; ') });
} finally {
  await browser.close();
}
process.exit(0);
