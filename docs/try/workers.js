// Workers that the page's security policy binds too. A worker that is loaded from an address has only the policy of the
// server's headers, and a plain web server sends none. A worker that is made from a blob inherits its creator's policy.

/** Starts a file of this folder as a worker. */
export function start(file) {
  const code = `import ${JSON.stringify(new URL(file, import.meta.url).href)};`;
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  return new Worker(address, { type: "module" });
}
