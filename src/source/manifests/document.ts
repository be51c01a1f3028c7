// What the manifest source passes along: an object with the place where it stands, and what is to be said about it.

import type { Cidr } from '../../lib/cidr.ts';
import { parseCidr } from '../../lib/cidr.ts';
import type { Ip } from '../../lib/ip.ts';
import type { LabelSelector } from '../../lib/label-selector.ts';
import type { FieldKey } from '../parse/reader.ts';

/** One object of a file. */
export interface SourceDocument {
  readonly file: string;
  /** Line of the object's first field, from 1. */
  readonly line: number;
  readonly object: unknown;
  /** Line of a field, or of the nearest field above it that is there. Without it every message names `line`. */
  readonly lineOf?: (keys: readonly FieldKey[]) => number;
}

/** Something wrong, or worth knowing, at a place in a file. */
export interface ManifestMessage {
  readonly file: string;
  readonly line: number;
  readonly message: string;
}

export interface ManifestOptions {
  /** Where a Service without an address gets one, at most one range a family; the first is the primary family. */
  readonly clusterIPRanges: readonly Cidr[];
  /** Both included. */
  readonly nodePortRange: { readonly from: number; readonly to: number };
  /** A Node of this name is made when no object describes it. Undefined makes none. */
  readonly nodeName: string | undefined;
  /** Addresses of that Node. */
  readonly nodeIPs: readonly Ip[];
  /** Objects of a kind that is named here count only with labels that its selector takes. */
  readonly selectors: Readonly<Record<string, LabelSelector>>;
}

export const DEFAULT_CLUSTER_IP_RANGE = '127.96.0.0/16';

export const DEFAULT_MANIFEST_OPTIONS: ManifestOptions = {
  clusterIPRanges: [DEFAULT_CLUSTER_IP_RANGE].flatMap((text) => parseCidr(text) ?? []),
  nodePortRange: { from: 30_000, to: 32_767 },
  nodeName: undefined,
  nodeIPs: [],
  selectors: {},
};

/** `shop.yaml:12: …`, as people and editors read it; line 0 stands for the whole file. */
export function formatMessage(message: ManifestMessage): string {
  const place = message.line === 0 ? message.file : `${message.file}:${message.line}`;
  return `${place}: ${message.message}`;
}

export function messageAt(document: SourceDocument, keys: readonly FieldKey[], message: string): ManifestMessage {
  const line = keys.length === 0 ? undefined : document.lineOf?.(keys);
  return { file: document.file, line: line ?? document.line, message };
}
