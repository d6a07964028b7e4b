// Drives chromium as a person would: opens a protected page, signs in, reads their name, signs out.
// Told by environment variables where to go; leaves a picture of each page in MEZU_PICTURES.
import { chromium } from 'playwright-core';
import { join } from 'node:path';

const env = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
};

const browser = await chromium.launch({
  executablePath: process.env.MEZU_CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});

try {
  // The installation's own CA signed the certificate; curl and the Rust clients check it, this test checks the pages.
  const context = await browser.newContext({ ignoreHTTPSErrors: true, javaScriptEnabled: false });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const shoot = (name) => page.screenshot({ path: join(env('MEZU_PICTURES'), `${name}.png`), fullPage: true });

  for (const [width, height, name] of [[390, 844, 'phone'], [1280, 800, 'desktop']]) {
    for (const scheme of ['light', 'dark']) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: scheme });
      await page.goto(env('MEZU_URL'));
      await page.getByLabel(/e-?mail/i).waitFor();
      await shoot(`sign-in-${name}-${scheme}`);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });

  await page.getByLabel(/e-?mail/i).fill(env('MEZU_EMAIL'));
  await page.getByLabel(/password/i).fill('not the password at all');
  await page.getByRole('button', { name: /sign in/i }).click();
  await page.getByRole('alert').waitFor();
  await shoot('sign-in-failed');

  await page.getByLabel(/e-?mail/i).fill(env('MEZU_EMAIL'));
  await page.getByLabel(/password/i).fill(env('MEZU_PASSWORD'));
  await page.getByRole('button', { name: /sign in/i }).click();
  await page.waitForURL(env('MEZU_URL'));
  const name = await page.locator('#name').textContent();
  if (name !== env('MEZU_NAME')) throw new Error(`the page says ${name}`);
  await shoot('workload');

  await page.getByRole('link', { name: /sign out/i }).click();
  await shoot('sign-out');
  await page.getByRole('button', { name: /sign out/i }).click();
  await page.waitForLoadState();
  await shoot('signed-out');
  await page.goto(env('MEZU_URL'));
  await page.getByLabel(/e-?mail/i).waitFor();
  console.log(`read the name "${name}" from the workload's page, signed out, was asked to sign in again`);
} finally {
  await browser.close();
}
