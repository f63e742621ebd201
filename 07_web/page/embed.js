// Embed: one line puts the chat into any page, at the place where the line stands.
//
//   <script src="https://example.org/site/embed.js"></script>
//
// It is a frame with the site's own page in it, so neither's styles or scripts touch the other's.
// The colours and the size are the embedding page's CSS variables, see 07_web/hosting.md.

(() => {
  const COLOURS = ["paper", "ink", "quiet", "line", "user", "model", "accent", "on-accent", "bad"];
  const script = document.currentScript;
  const style = getComputedStyle(script.parentElement);
  const given = (name) => style.getPropertyValue(`--tiny-llm-${name}`).trim();
  const page = script.src.startsWith("file:") ? "chat.html" : "index.html"; // no modules on file://
  const address = new URL(page, script.src);
  const colours = COLOURS.map((name) => [name, given(name)]).filter(([, colour]) => colour);
  address.hash = new URLSearchParams(colours);
  const frame = document.createElement("iframe");
  frame.src = address.href;
  frame.title = "Chat with a tiny language model";
  frame.loading = "lazy"; // a visitor who does not come that far downloads no model
  frame.style.width = given("width") || "100%";
  frame.style.height = given("height") || "32rem";
  frame.style.boxSizing = "border-box";
  frame.style.border = "1px solid #8888";
  frame.style.borderRadius = "0.5rem";
  script.after(frame);
})();
