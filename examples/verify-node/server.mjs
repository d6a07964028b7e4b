// A sample workload that believes nothing but the signed assertion: it answers who you are, or 401 and why not.
// Needs Node 20 and nothing else.
//
//   node server.mjs --issuer spiffe://mezu.internal --audience prj_…/env_… --keys https://shop.example/.mezu/jwks.json
//
// `mezusphere environment list PROJECT --json` shows issuer and audience. --ca FILE: roots to trust when keys are fetched; --listen HOST:PORT.

import { createPublicKey, verify as verifySignature } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { get } from "node:https";
import { parseArgs } from "node:util";

// Longest assertion there is, in characters.
const LEN_MAX = 8 * 1024;
// How far our clock may be behind the one that signed, in seconds.
const SKEW_S_MAX = 60;
// How long the key set is used without looking again: as long as its cache-control says.
const KEPT_FOR_MS = 300_000;
// Between two fetches, whatever assertions name: an invented key must not turn requests into fetches.
const FETCH_AGAIN_AFTER_MS = 10_000;
const FETCH_WITHIN_MS = 5_000;
// Largest key set, in octets.
const KEYS_LEN_MAX = 64 * 1024;

const { values: options } = parseArgs({
  options: {
    listen: { type: "string", default: "127.0.0.1:3000" },
    issuer: { type: "string" },
    audience: { type: "string" },
    keys: { type: "string" },
    ca: { type: "string" },
  },
});
for (const name of ["issuer", "audience", "keys"]) {
  if (!options[name]) {
    console.error(`error: --${name} is missing`);
    process.exit(2);
  }
}
if (options.keys.includes("://") && !options.keys.startsWith("https://")) {
  console.error(`error: ${options.keys}: keys come over https, or from a file`);
  process.exit(2);
}

// ---- Verifying: the part to copy -----------------------------------------------------------------------------------

/** Why an assertion is not believed. */
class Refused extends Error {}

const BASE64URL = /^[A-Za-z0-9_-]+$/;

function part(text) {
  if (!BASE64URL.test(text)) throw new Refused("malformed");
  try {
    const value = JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("no object");
    return value;
  } catch {
    throw new Refused("malformed");
  }
}

/**
 * What an assertion says, if it is good. The reader decides everything: one algorithm, one type, one issuer, one audience.
 * The text can only agree or be refused. `findKey(kid)` gives a KeyObject; `now` is in seconds since 1970.
 */
async function verify(assertion, { issuer, audience, findKey, now }) {
  const parts = assertion.split(".");
  if (assertion.length > LEN_MAX || parts.length !== 3) throw new Refused("malformed");
  const header = part(parts[0]);
  if ("crit" in header) throw new Refused("malformed");
  // Never "whatever the header says": `none` and HMAC with a public key live there.
  if (header.alg !== "ES256") throw new Refused("wrong algorithm");
  if (header.typ !== "mezu-assertion+jwt") throw new Refused("wrong type");
  const key = typeof header.kid === "string" ? await findKey(header.kid) : undefined;
  if (!key) throw new Refused("unknown key");
  if (!BASE64URL.test(parts[2])) throw new Refused("malformed");
  const signature = Buffer.from(parts[2], "base64url");
  const signed = Buffer.from(`${parts[0]}.${parts[1]}`, "ascii");
  if (signature.length !== 64 || !verifySignature("sha256", signed, { key, dsaEncoding: "ieee-p1363" }, signature)) {
    throw new Refused("bad signature");
  }
  const claims = part(parts[1]);
  if (claims.iss !== issuer) throw new Refused("wrong issuer");
  if (claims.aud !== audience) throw new Refused("wrong audience");
  if (!Number.isInteger(claims.exp) || !Number.isInteger(claims.iat)) throw new Refused("malformed");
  if (claims.exp <= now) throw new Refused("expired");
  if (claims.iat > now + SKEW_S_MAX) throw new Refused("not valid yet");
  return claims;
}

// ---- The key set: fetched once, kept, fetched again when an assertion names a key that is not in it -------------------

class KeySet {
  #keys = new Map();
  #fetchedAt = undefined;
  #fetching = undefined;

  find = async (kid) => {
    const age = this.#fetchedAt === undefined ? Infinity : performance.now() - this.#fetchedAt;
    if (age >= KEPT_FOR_MS || (!this.#keys.has(kid) && age >= FETCH_AGAIN_AFTER_MS)) {
      // One fetch at a time; the others wait for it.
      this.#fetching ??= this.#fetch().finally(() => (this.#fetching = undefined));
      try {
        await this.#fetching;
      } catch (error) {
        // What is held still verifies; keys are announced long before they sign.
        if (this.#keys.size === 0) throw error;
      }
    }
    return this.#keys.get(kid);
  };

  async #fetch() {
    const url = options.keys.startsWith("https://");
    const set = JSON.parse(url ? await fetchText(options.keys) : await readFile(options.keys, "utf8"));
    const keys = new Map();
    for (const jwk of set.keys ?? []) {
      if (jwk.kty === "EC" && jwk.crv === "P-256" && typeof jwk.kid === "string") {
        keys.set(jwk.kid, createPublicKey({ key: { kty: "EC", crv: "P-256", x: jwk.x, y: jwk.y }, format: "jwk" }));
      }
    }
    this.#keys = keys;
    this.#fetchedAt = performance.now();
  }
}

async function fetchText(url) {
  const ca = options.ca ? await readFile(options.ca) : undefined;
  // Names under localhost are loopback (RFC 6761 §6.3), which not every resolver knows.
  const loopback = (_host, wanted, done) =>
    wanted.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
  const lookup = new URL(url).hostname.endsWith(".localhost") ? loopback : undefined;
  return new Promise((resolve, reject) => {
    const request = get(url, { ca, lookup, agent: false, signal: AbortSignal.timeout(FETCH_WITHIN_MS) }, (response) => {
      const chunks = [];
      let length = 0;
      response.on("data", (chunk) => {
        length += chunk.length;
        if (length > KEYS_LEN_MAX) response.destroy(new Error("the key set is too large"));
        else chunks.push(chunk);
      });
      response.on("end", () =>
        response.statusCode === 200
          ? resolve(Buffer.concat(chunks).toString("utf8"))
          : reject(new Error(`${url} answered ${response.statusCode}`)),
      );
      response.on("error", reject);
    });
    request.on("error", reject);
  });
}

// ---- The service ---------------------------------------------------------------------------------------------------

const keys = new KeySet();

async function caller(request) {
  // Node joins fields of one name with a comma, which no assertion has.
  const assertion = request.headers["mezu-assertion"] ?? "";
  if (assertion === "") throw new Refused("nobody is signed in");
  const now = Math.floor(Date.now() / 1000);
  return verify(assertion, { issuer: options.issuer, audience: options.audience, findKey: keys.find, now });
}

const server = createServer(async (request, response) => {
  let status, told;
  try {
    const { sub, email = "", name = "", roles = [] } = await caller(request);
    [status, told] = [200, { account: sub, email, name, roles }];
  } catch (error) {
    // Without keys nobody is believed.
    [status, told] = [error instanceof Refused ? 401 : 503, { error: error.message }];
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(told));
});

const colon = options.listen.lastIndexOf(":");
server.listen(Number(options.listen.slice(colon + 1)), options.listen.slice(0, colon), () => {
  const { address, port } = server.address();
  console.log(`listening on http://${address}:${port}`);
});
