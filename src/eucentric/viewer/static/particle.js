// Keys of a particle's page, where no field has them.
const keys = { ArrowLeft: "previous", ArrowRight: "next", t: "tomogram", T: "tomogram" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea, [role=group], [role=region]")) return;
  const link = document.getElementById(keys[event.key] ?? "");
  if (link) location.assign(link.href);
});
