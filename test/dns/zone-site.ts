// What answers at an address, from one compiled zone and nothing else.

import { chainOf, refuse } from '../../src/dns/handler.ts';
import { kubernetesHandler } from '../../src/dns/kubernetes-handler.ts';
import { Routes } from '../../src/dns/route.ts';
import type { Site } from '../../src/dns/server.ts';
import { ROOT } from '../../src/dns/wire/name.ts';
import type { Zone } from '../../src/dns/zone/zone.ts';

export function zoneSite(zone: Zone): Site {
  const block = {
    handle: chainOf([kubernetesHandler({ zone: () => zone, resolveOutside: undefined, fallthrough: [] })], refuse),
    handleOther: refuse,
    random: Math.random,
    turns: true,
    logs: [],
    errorLog: undefined,
    bufsize: undefined,
    extras: undefined,
    header: undefined,
    deadlineMs: undefined,
  };
  return { routes: new Routes([{ zones: [ROOT], block, view: undefined }]), version: 0 };
}
