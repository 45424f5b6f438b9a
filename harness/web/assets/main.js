// Where we are, keys, theme. Runs last.

function route() {
  const [, view, rest, answer] =
    location.hash.match(/^#\/(board|submission)\/((?:%2F|[\w.-])*)(?:\/([0-9a-f]{16}))?$/) ?? [];
  document.body.dataset.view = view ?? "board";
  return view === "submission" ? showSubmission(decodeURIComponent(rest), answer) : showBoard(rest);
}

addEventListener("hashchange", route);

document.querySelector("a.skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is shown
  main.focus();
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    const back = main.querySelector("a.back");
    if (typing) typing.blur();
    else if (back) location.hash = back.getAttribute("href");
  } else if (!typing && event.key === "/") {
    event.preventDefault();
    main.querySelector("input[type=search]")?.focus();
  } else if (!typing && (event.key === "j" || event.key === "k")) {
    const all = [...main.querySelectorAll("article")];
    const at = all.indexOf(document.activeElement.closest("article")) + (event.key === "j" ? 1 : -1);
    const next = all[Math.min(Math.max(at, 0), all.length - 1)];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "start" });
  }
});

// On paper everything is open.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});

const themes = ["auto", "light", "dark"],
  theme = document.getElementById("theme");
theme.addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % themes.length];
  document.documentElement.dataset.theme = next;
  theme.textContent = `Theme: ${next}`;
});

route();
