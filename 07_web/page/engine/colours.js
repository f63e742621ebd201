// Colours: those that a page which embeds this one gives in the address, #accent=...&paper=...

const given = new URLSearchParams(location.hash.slice(1));
for (const [name, colour] of given) {
  const known = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
  if (known && CSS.supports("color", colour)) document.documentElement.style.setProperty(`--${name}`, colour);
}
