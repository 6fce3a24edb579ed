// Reading aids: what a link leads to, shown beside the link; proofs that fold all at once; and a sign that a page stands.
// The pages are whole without it.

(() => {
// The definitions of a page arrive by a script of their own, since a page on disk may not read another one.
const asked = new Map(), arrived = new Map();
window.defineLinks = (page, entries) => arrived.set(page, entries);

function entriesOf(link) {
  const address = link.href.replace(/#.*$/, "").replace(/\.html$/, ".definitions.js");
  const page = link.pathname.split("/").pop();
  if (!asked.has(page))
    asked.set(page, new Promise((done) => {
      const script = document.createElement("script");
      script.onload = script.onerror = () => done(arrived.get(page) ?? {});
      script.src = address;
      document.head.append(script);
    }));
  return asked.get(page);
}

const card = document.createElement("div");
Object.assign(card, {id: "link-card", className: "link-card", hidden: true, tabIndex: 0, role: "tooltip"});
document.body.append(card);
let shown = null, wanted = null, timer = 0;

async function show(link) {
  wanted = link;
  const text = (await entriesOf(link))[decodeURIComponent(link.hash.slice(1))];
  if (wanted !== link || link === shown || !text) return;
  hide();
  wanted = shown = link;
  window.MathJax?.typesetClear?.([card]);
  card.innerHTML = text;
  card.style.visibility = "hidden";
  card.hidden = false;
  await window.MathJax?.typesetPromise?.([card]);
  if (shown !== link) return;
  link.removeAttribute("title"); // the browser's own tooltip would lie on top of it
  link.setAttribute("aria-describedby", card.id);
  place(link);
}

function place(link) {
  const line = link.getClientRects()[0], size = card.getBoundingClientRect();
  const above = line.bottom + 4 + size.height > innerHeight && line.top > size.height;
  const left = Math.max(8, Math.min(line.left, document.documentElement.clientWidth - size.width - 8));
  card.style.left = `${left + scrollX}px`;
  card.style.top = `${(above ? line.top - size.height - 4 : line.bottom + 4) + scrollY}px`;
  card.style.visibility = "";
}

function hide() {
  clearTimeout(timer);
  shown?.removeAttribute("aria-describedby");
  shown = wanted = null;
  card.hidden = true;
}

function soon(action, delay) {
  clearTimeout(timer);
  timer = setTimeout(action, delay);
}

// A formula that has been set has no text: its link says by name which symbol it is.
for (const link of document.querySelectorAll(".bd-article a.symbol"))
  link.setAttribute("aria-label", link.hash.slice(1).replaceAll("-", " "));

const linkOf = (target) => target.closest?.(".bd-article a.reference.internal[href*='#']");

document.addEventListener("pointerover", (event) => {
  if (event.pointerType !== "mouse") return; // a finger follows the link
  const link = linkOf(event.target);
  if (link) link === shown ? clearTimeout(timer) : soon(() => show(link), 200);
  else if (card.contains(event.target)) clearTimeout(timer);
  else soon(hide, 300);
});
document.addEventListener("focusin", ({target}) => {
  const link = linkOf(target);
  if (link?.matches(":focus-visible")) show(link);
  else if (!card.contains(target)) hide();
});
document.addEventListener("focusout", ({target, relatedTarget}) => linkOf(target) && !card.contains(relatedTarget) && hide());
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

// One control for all proofs of a page. What was chosen holds for the visit, where the browser lets a page remember.
const proofs = [...document.querySelectorAll("details.fold")];
const memory = {
  get folded() { try { return sessionStorage.getItem("proofs") === "folded"; } catch { return false; } },
  set folded(value) { try { sessionStorage.setItem("proofs", value ? "folded" : "open"); } catch { /* not here */ } },
};

function fold(folded) {
  for (const proof of proofs) proof.open = !folded;
  label();
}

// What the button would do now, also when the last proof was folded by hand.
function label() {
  all.textContent = proofs.some((proof) => proof.open) ? "Fold all proofs" : "Show all proofs";
}

const all = document.createElement("button");
if (proofs.length) {
  Object.assign(all, {type: "button", className: "fold-all"});
  all.addEventListener("click", () => fold(memory.folded = proofs.some((proof) => proof.open)));
  const files = document.querySelector(".page-files"); // the line below the title
  if (files) files.prepend(all);
  else document.querySelector(".bd-article h1").after(all);
  fold(memory.folded);
  for (const proof of proofs) proof.addEventListener("toggle", label);
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("details.fold");
  if (target) target.open = true; // a link into a proof shows it
}

// On a narrow screen a figure scrolls in itself (book.css): by key, too.
const narrow = matchMedia("(max-width: 26rem)");
function figuresByKey() {
  for (const figure of document.querySelectorAll(".bd-article figure.align-default"))
    if (narrow.matches) figure.tabIndex = 0;
    else figure.removeAttribute("tabindex");
}
narrow.addEventListener("change", figuresByKey);
figuresByKey();

for (const explorer of document.querySelectorAll(".bd-article .kd-explorer"))
  for (let node = explorer; !node.matches("main"); node = node.parentElement) node.classList.add("has-explorer");

// From here on the size of everything is known, its formulas included: two frames later it has been noted.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  requestAnimationFrame(() => requestAnimationFrame(() => document.documentElement.classList.add("stands")));
});

// The search page reads the pages that it has found, for a summary. A page on disk may not.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
})();
