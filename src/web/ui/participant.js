// The participant's page: shows what `/v1/me` says, and sends what the person decides. What opens it is taken from the part
// of the address after `#`, which browsers do not send, removed from there, and kept in this page's memory only. The code of
// an invitation (`ali_`) is redeemed once for the person's own token (`alp_`), which the page gives them as a link to keep.
"use strict";

const words = JSON.parse(document.getElementById("words").textContent);
const at = (id) => document.getElementById(id);
let code = "";

function node(kind, text, className) {
  const made = document.createElement(kind);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// A sentence about something in the ledger, with the receipt of its entry to save.
function noted(text, seq) {
  const made = node("p", `${text} `, "soft");
  const receipt = node("a", `Receipt of ledger entry ${seq}`);
  receipt.href = `/v1/ledger/entries/${seq}/proof`;
  receipt.download = `entry-${seq}.tlog-proof`;
  made.append(receipt);
  return made;
}

// A key under which a repetition of the same act is not a second one.
function fresh() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function day(time) {
  const options = { year: "numeric", month: "long", day: "numeric", timeZone: "UTC" };
  return new Date(time).toLocaleDateString("en", options);
}

function say(text) {
  at("message").textContent = text || "";
  at("message").hidden = !text;
}

function wrong(status) {
  if (status === 401 || status === 403) return "This code does not work, or no longer. Ask your hospital for a new one.";
  if (status === 409 && !code) return "This code was used before. If you used it, open the link that you kept. If you did not, tell your hospital: it will end it and give you a new one.";
  return "";
}

async function call(method, path, body, key) {
  const headers = {};
  if (code) headers.authorization = `Bearer ${code}`;
  if (body) headers["content-type"] = "application/json";
  if (key) headers["idempotency-key"] = key;
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Error(wrong(answer.status) || said.detail || "That did not work. Try again later.");
  }
  return said;
}

function purposes(rule) {
  return (rule.purposes || []).map((p) => words.purposes[p] || p).join(", ") || "any purpose";
}

function categories(rule) {
  return (rule.categories || []).map((c) => words.categories[c] || c).join(", ") || "all data";
}

// One line for each thing that a consent permits or denies.
function lines(rule, out) {
  const until = rule.period && rule.period.until ? `, until ${day(rule.period.until)}` : "";
  const only = (rule.recipients || []).length ? `, only for ${rule.recipients.join(", ")}` : "";
  if (rule.effect === "permit") out.push(`Allowed: ${categories(rule)} for ${purposes(rule)}${only}${until}`);
  if (rule.effect === "deny") out.push(`Not allowed: ${categories(rule)}${(rule.purposes || []).length ? ` for ${purposes(rule)}` : ""}${only}${until}`);
  for (const part of rule.provisions || []) lines(part, out);
  return out;
}

function showChoices(said) {
  const name = (id) => (id ? said.hospitals[id] || id : "every hospital");
  const place = at("choices");
  place.replaceChildren();
  for (const w of said.withdrawals.filter((w) => w.stands)) {
    const card = node("div", "", "card stopped");
    card.append(node("h3", words.modes[w.mode].title), node("p", words.modes[w.mode].meaning));
    card.append(noted(`For ${name(w.contributor)}, on ${day(w.time)}.`, w.seq));
    place.append(card);
  }
  for (const c of said.choices.filter((c) => c.governs)) {
    const card = node("div", "", "card given");
    card.append(node("h3", words.sources[c.directive.source] || "You decided"));
    const list = node("ul");
    if (c.directive.status !== "active") list.append(node("li", "This paper is no longer in force"));
    else for (const line of lines(c.directive.rules, [])) list.append(node("li", line));
    card.append(list, noted(`For the data of ${name(c.contributor)}, signed ${day(c.directive.signed.date)}.`, c.seq));
    place.append(card);
  }
  if (!place.children.length) place.append(node("p", "You have not said anything yet, so nothing of yours is used."));
  for (const id of ["stop-where", "allow-where"]) {
    const select = at(id);
    select.replaceChildren();
    for (const [hospital, title] of Object.entries(said.hospitals)) select.append(new Option(title, hospital));
  }
  return said;
}

function showUses(used) {
  const place = at("uses");
  place.replaceChildren();
  for (const r of used.releases) {
    const card = node("div", "", "card");
    card.append(node("h3", r.lay_summary));
    card.append(noted(`Handed over to ${r.recipient} for ${words.purposes[r.purpose] || r.purpose}, on ${day(r.built)}.`, r.seq));
    place.append(card);
  }
  for (const c of used.counts) {
    const card = node("div", "", "card");
    card.append(node("h3", c.title));
    card.append(node("p", `Asked ${c.counts === 1 ? "once" : `${c.counts} times`} how many people fit, the last time on ${day(c.last)}. You may be one of them. Nothing was handed over for that.`, "soft"));
    place.append(card);
  }
  if (!place.children.length) place.append(node("p", "Nothing so far."));
}

// The key of this visit: a repetition after a lost answer gives the same token.
const visit = fresh();
async function redeem(invitation) {
  const own = await call("POST", "/v1/invitations/redemptions", { code: invitation }, visit);
  code = own.token;
  const link = `${location.origin}/me#${own.token}`;
  at("own-link").textContent = link;
  at("own-until").textContent = day(own.expires);
  at("copy").hidden = !navigator.clipboard;
  at("copy").onclick = tryTo(async () => {
    await navigator.clipboard.writeText(link);
    at("copy").textContent = "Copied";
  });
  at("own").hidden = false;
}

async function come(given) {
  code = "";
  if (given.startsWith("ali_")) await redeem(given);
  else code = given;
  await show();
}

let standing = [];
async function show() {
  const { said } = await call("GET", "/v1/me/choices");
  showChoices(said);
  standing = said.withdrawals.filter((w) => w.stands);
  showUses(await call("GET", "/v1/me/uses"));
  at("enter").hidden = true;
  at("inside").hidden = false;
  say("");
}

function ask(title, text, yes) {
  const dialog = at("sure");
  dialog.querySelector("h3").textContent = title;
  at("sure-text").textContent = text;
  dialog.querySelector("button[value=yes]").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

function tryTo(work) {
  return async (event) => {
    event.preventDefault();
    try {
      await work();
    } catch (error) {
      say(error.message);
    }
  };
}

at("enter").addEventListener("submit", tryTo(async () => {
  const given = at("code").value.trim();
  at("code").value = "";
  await come(given);
}));

at("withdraw").addEventListener("submit", tryTo(async () => {
  const mode = new FormData(at("withdraw")).get("mode");
  const where = at("stop-where");
  const sure = await ask(words.modes[mode].title, `${words.modes[mode].meaning} For ${where.selectedOptions[0].text}.`, "Stop");
  if (!sure) return;
  const body = { mode, contributor: where.value };
  const receipt = await call("POST", "/v1/me/withdrawals", body, fresh());
  at("receipt-text").textContent = `${receipt.meaning} Ledger entry ${receipt.seq}, ${receipt.hospitals.map((h) => h.name).join(", ")}.`;
  const link = at("receipt-file");
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([JSON.stringify(receipt, null, 2)], { type: "application/json" }));
  at("receipt-unsigned").hidden = receipt.quorum !== "missing";
  at("receipt-again").href = `/v1/ledger/entries/${receipt.seq}/proof`;
  at("receipt-again").download = `entry-${receipt.seq}.tlog-proof`;
  at("receipt").showModal();
  await show();
}));

at("permit").addEventListener("submit", tryTo(async () => {
  const form = new FormData(at("permit"));
  const where = at("allow-where");
  const purpose = form.get("purpose");
  const left = form.getAll("without");
  const rules = { effect: "permit", purposes: [purpose] };
  if (left.length) rules.provisions = [{ effect: "deny", categories: left }];
  const stopped = standing.find((w) => !w.contributor || w.contributor === where.value);
  const again = stopped ? ` This takes back what you stopped on ${day(stopped.time)}.` : "";
  if (!(await ask("Allow", `The data of ${where.selectedOptions[0].text} may be used for ${words.purposes[purpose]}.${again}`, "Allow"))) return;
  const body = { contributor: where.value, rules };
  if (stopped) body.lifts = stopped.seq;
  await call("POST", "/v1/me/consents", body, fresh());
  await show();
}));

at("leave").addEventListener("click", () => {
  code = "";
  location.replace("/me");
});

const given = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, "", location.pathname);
if (given) {
  come(given).catch((error) => {
    at("enter").hidden = false;
    say(error.message);
  });
} else {
  at("enter").hidden = false;
}
