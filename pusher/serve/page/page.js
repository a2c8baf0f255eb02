// Keeps #live up to date from server-sent events, and sends the buttons' forms without leaving the page.
"use strict";

const live = document.getElementById("live");
const connection = document.getElementById("connection");
const problem = document.getElementById("problem");
const said = document.getElementById("said");
const main = document.getElementById("main");

// --- updates -----------------------------------------------------------------------------------------------

function parse(html) {
  return new DOMParser().parseFromString(html, "text/html").body;
}

function isAlike(old, wanted) {
  return old.nodeType === wanted.nodeType && old.nodeName === wanted.nodeName && (old.id || "") === (wanted.id || "");
}

// Make `old` equal to `wanted` with as few changes as possible: what has the focus, is selected or open stays so.
function update(old, wanted) {
  if (old.isEqualNode(wanted)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let next = old.firstChild;
  for (const child of [...wanted.childNodes]) {
    let match = child.id ? [...old.children].find((each) => each.id === child.id) : next;
    if (match && isAlike(match, child)) {
      if (match === next) next = next.nextSibling;
      else old.insertBefore(match, next);
      update(match, child);
    } else {
      old.insertBefore(document.importNode(child, true), next);
    }
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function states() {
  return new Map([...live.querySelectorAll("[data-state]")].map((each) => [each.dataset.name, each.dataset.state]));
}

function say(text) {
  said.textContent = text;
}

// Run `change`, keep the focus where it was or near by, and say which jobs have another state.
function change(apply) {
  const focused = document.activeElement;
  const row = focused && focused.closest(".job");
  const before = states();
  apply();
  if (focused && focused !== document.activeElement) {
    const near = row && document.getElementById(row.id);
    if (focused.isConnected) focused.focus({ preventScroll: true });
    else if (near) (near.querySelector(".actions :is(button, summary)") || near.querySelector("a") || main).focus();
  }
  const changed = [...states()].filter(([name, state]) => before.has(name) && before.get(name) !== state);
  if (changed.length > 3) say(`${changed.length} jobs have changed`);
  else if (changed.length) say(changed.map(([name, state]) => `${name}: ${state}`).join(". "));
}

// `of`: what failed, an update or a button. The next update says nothing about a button.
function showProblem(of, text) {
  if (!text && problem.dataset.of !== of) return;
  const [message, hint] = text.split("\n");
  problem.dataset.of = of;
  problem.replaceChildren();
  for (const line of [message, hint]) {
    if (line) problem.appendChild(document.createElement("p")).textContent = line;
  }
}

// --- the connection ----------------------------------------------------------------------------------------

let source = null;
let timer = 0;

function connect() {
  disconnect();
  source = new EventSource(location.pathname + location.search);
  source.onopen = () => {
    connection.textContent = "Live";
    connection.dataset.state = "live";
  };
  source.onerror = () => {
    connection.textContent = "Reconnecting…";
    connection.dataset.state = "lost";
    // after an answer that is no stream a browser does not try again by itself
    if (source.readyState === EventSource.CLOSED) timer = setTimeout(connect, 3000);
  };
  source.addEventListener("whole", (event) => {
    showProblem("update", "");
    const wanted = live.cloneNode(false);
    wanted.append(...parse(event.data).childNodes);
    change(() => update(live, wanted));
  });
  source.addEventListener("parts", (event) => {
    showProblem("update", "");
    change(() => {
      for (const part of parse(event.data).children) {
        const old = document.getElementById(part.id);
        if (old) update(old, part);
      }
    });
  });
  source.addEventListener("problem", (event) => showProblem("update", event.data));
}

function disconnect() {
  clearTimeout(timer);
  if (source) source.close();
  source = null;
}

// A browser has six connections for a host: tabs that are not looked at need none.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
addEventListener("pagehide", disconnect);
addEventListener("pageshow", (event) => event.persisted && connect());
if (!document.hidden) connect();

// --- buttons -----------------------------------------------------------------------------------------------

live.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  button.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "text/plain" },
    });
    const text = await answer.text();
    showProblem("button", answer.ok ? "" : text);
    if (answer.ok) say(text);
  } catch {
    showProblem("button", "pusher serve does not answer\nis it still running? Start it again with: pusher serve");
  } finally {
    button.removeAttribute("aria-busy");
    const details = form.querySelector("details");
    if (details) details.open = false;
  }
});
