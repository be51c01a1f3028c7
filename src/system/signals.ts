/** Resolves with the name of the first SIGTERM or SIGINT. A second one ends the process at once, with the shell's code for it. */
export function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (asked) process.exit(signal === 'SIGINT' ? 130 : 143);
      asked = true;
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}

/** Calls `act` at each such signal, until the returned function is called. */
export function onSignal(signal: NodeJS.Signals, act: () => void): () => void {
  process.on(signal, act);
  return () => void process.off(signal, act);
}
