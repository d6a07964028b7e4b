// A page in chromium, over HTTP/2: fetch, server-sent events, WebSocket. Prints a JSON line for each.
// Told by environment variables: MEZU_URL (the origin), MEZU_TAG.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../browser/package.json', import.meta.url));
const { chromium } = require('playwright-core');

const { MEZU_URL: origin, MEZU_TAG: tag } = process.env;
const say = (line) => console.log(JSON.stringify(line));

const browser = await chromium.launch({
  executablePath: process.env.MEZU_CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});

const features = {
  get: async () => {
    const answer = await fetch('/told/a%20b?c=d', { headers: { 'x-own': 'mine' } });
    const told = await answer.json();
    const way = performance.getEntriesByType('resource').at(-1).nextHopProtocol;
    if (way !== 'h2') throw new Error(`over ${way}`);
    if (told.target !== '/told/a%20b?c=d' || told.headers['x-own'][0] !== 'mine') throw new Error(JSON.stringify(told));
  },
  bodies: async () => {
    const sent = new Uint8Array(300000).map((_, index) => index * 7);
    const answer = await (await fetch('/sink', { method: 'POST', body: sent })).json();
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', sent));
    const hex = [...digest].map((octet) => octet.toString(16).padStart(2, '0')).join('');
    if (answer.received !== 300000 || answer.digest !== hex) throw new Error(JSON.stringify(answer));
  },
  cut: async () => {
    const answer = await fetch('/cut/100000');
    const broke = await answer.arrayBuffer().then(() => false, () => true);
    if (answer.status !== 200 || !broke) throw new Error('the body ended as if it were whole');
  },
  streamed: (tag) => new Promise((resolve, reject) => {
    const events = new EventSource(`/sse/chromium-${tag}`);
    let count = 0;
    events.onmessage = async (event) => {
      count += 1;
      if (count === 1 && event.data === 'first') await fetch(`/release/chromium-${tag}`);
      else if (count === 2 && event.data === 'second') { events.close(); resolve(); }
      else reject(new Error(`${count}: ${event.data}`));
    };
    // It reconnects by itself when the stream ends; an error before the second event is one.
    events.onerror = () => { if (count < 2) reject(new Error(`the stream broke after ${count}`)); };
  }),
  websocket: () => new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/ws`, ['chat']);
    const sent = ['', 'hello', 'x'.repeat(126), 'y'.repeat(70000), 'ü€'];
    let count = 0;
    socket.onopen = () => { if (socket.protocol !== 'chat') reject(new Error(socket.protocol)); sent.forEach((text) => socket.send(text)); };
    socket.onmessage = ({ data }) => {
      if (data !== sent[count]) reject(new Error(`${count}: ${data.length} characters`));
      count += 1;
      if (count === sent.length) socket.close(1000, 'bye');
    };
    socket.onerror = () => reject(new Error('the socket failed'));
    socket.onclose = ({ code, reason, wasClean }) => (
      count === sent.length && code === 1000 && reason === 'bye' && wasClean ? resolve() : reject(new Error(`${count} ${code} ${reason}`)));
  }),
};

try {
  // The installation's own CA signed the certificate; the other clients check it.
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  await page.goto(`${origin}/told`);
  for (const [feature, run] of Object.entries(features)) {
    try {
      const late = new Promise((_, reject) => { setTimeout(() => reject(new Error('no answer in 15 s')), 15_000); });
      await Promise.race([page.evaluate(run, tag), late]);
      say({ event: 'done', feature, ok: true });
    } catch (why) {
      say({ event: 'done', feature, ok: false, why: String(why.message ?? why).split('\n')[0] });
    }
  }
} finally {
  await browser.close();
}
process.exit(0);
