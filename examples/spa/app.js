// A single-page application with a sign-in form of its own, and no sign-in code behind it.
//
// 1. POST /api/v1/sign-in and /sign-in/password at the login host prove who it is; they give a code and an API token.
// 2. POST /.mezu/session on this host turns the code into the session cookie, which no script can read. From then on the
//    browser presents it, and the edge lets protected routes answer.
// 3. The token opens the account API at the login host. It is kept in memory only: a page that is loaded anew does without.
//
// Published with two routes: `/*` public, where this page lies, and `/api/*` required, where its data lies.

const $ = (id) => document.getElementById(id);

/** What this client keeps to itself: 32 random bytes. The sign-in is bound to their hash. */
const state = crypto.getRandomValues(new Uint8Array(32));
let login; // https://login.…, as the edge says
let flow; // the sign-in under way
let token; // for the account API
let tokenEnds;

class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.title ?? "Something went wrong");
    Object.assign(this, { status, code: body.code ?? "", next: body.next ?? "", retryAfter });
  }
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

async function ask(method, url, body, headers = {}) {
  const init = { method, headers: { accept: "application/json", ...headers } };
  if (body !== undefined) {
    init.headers["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const response = await fetch(url, init);
  const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, answer, response.headers.get("retry-after"));
  return answer;
}

/** The flows at the login host. No cookie goes there; the token says who it is. */
function api(method, path, body) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  return ask(method, `${login}/api/v1${path}`, body, headers);
}

function tell(title, message = "") {
  $("title").textContent = title;
  $("message").textContent = message;
}

function show(id) {
  for (const part of ["sign-in", "inside"]) $(part).hidden = part !== id;
}

/** The words for a problem. Codes are stable; docs/errors.md lists them. */
function explain(problem) {
  if (!(problem instanceof Problem)) return "The network did not answer. Try again.";
  if (problem.code === "login.throttled") return `Too many attempts. Try again in ${problem.retryAfter} seconds.`;
  return `${problem.message}. ${problem.next}`;
}

/** Asks the edge who this is; whoever is nobody yet signs in here. */
async function start() {
  const me = await ask("GET", "/.mezu/whoami");
  login = me.login;
  if (me.authenticated) return inside(me);
  tell("Sign in");
  await begin();
  show("sign-in");
}

async function begin() {
  const hash = await crypto.subtle.digest("SHA-256", state);
  const begun = await api("POST", "/sign-in", { host: location.hostname, state_hash: base64url(hash) });
  flow = begun.flow;
  $("forgot").hidden = !begun.recovery;
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const [email, password] = [form.email.value, form.password.value];
  tell("Sign in", "One moment…");
  try {
    const done = await api("POST", "/sign-in/password", { flow, email, password });
    token = done.token;
    tokenEnds = Date.parse(done.token_ends_at);
    // The code is good for a minute, once, on this host, and with our secret only.
    await ask("POST", "/.mezu/session", { code: done.hand_off.code, state: base64url(state) });
    form.reset();
    await inside(await ask("GET", "/.mezu/whoami"));
  } catch (problem) {
    tell("Sign in", explain(problem));
    // A form that was open for too long begins anew.
    if (problem.code === "login.form_stale") await begin();
    form.password.value = "";
    form.password.focus();
  }
});

$("forgot").addEventListener("click", async () => {
  const email = $("sign-in").email.value;
  try {
    await api("POST", "/recovery", { host: location.hostname, email, return_to: location.pathname });
    // The same whether the address has an account: nobody learns which do.
    tell("Sign in", "If that address has an account, a link is on its way.");
  } catch (problem) {
    tell("Sign in", explain(problem));
  }
});

async function inside(me) {
  tell(`Hello, ${me.name || me.email}`);
  $("account").textContent = `${me.email} (${me.account})`;
  $("roles").textContent = me.roles.join(", ") || "none";
  show("inside");
  const data = await ask("GET", "/api/me");
  $("data").textContent = data.headers ? data.headers["mezu-user-email"] : JSON.stringify(data);
  await signIns();
}

/** The account API, as long as this page was there when the person signed in. */
async function signIns() {
  const list = $("sign-ins");
  list.replaceChildren();
  $("where").hidden = !token;
  if (!token) return;
  if (tokenEnds - Date.now() < 60_000) {
    const renewed = await api("POST", "/token", {});
    token = renewed.token;
    tokenEnds = Date.parse(renewed.token_ends_at);
  }
  const { items } = await api("GET", "/account/sign-ins");
  for (const signIn of items) {
    const item = document.createElement("li");
    item.textContent = `${signIn.address}, since ${signIn.since}${signIn.current ? ", here" : ""}`;
    if (!signIn.current) {
      const end = document.createElement("button");
      end.textContent = "End";
      end.addEventListener("click", async () => {
        await api("DELETE", `/account/sign-ins/${signIn.id}`);
        await signIns();
      });
      item.append(end);
    }
    list.append(item);
  }
}

$("sign-out").addEventListener("click", async () => {
  // Ends the sign-in with every session of it, here and on other hosts.
  await ask("DELETE", "/.mezu/session");
  token = undefined;
  show("none");
  tell("You are signed out");
});

start().catch((problem) => tell("This did not work", explain(problem)));
