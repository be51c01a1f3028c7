// A scenario's steps as Snapshots: the same way as a folder of manifests becomes one.

import { nodeIdentity } from '../../../src/model/node.ts';
import { resolve, type Resolution } from '../../../src/model/resolve.ts';
import type { Snapshot } from '../../../src/model/snapshot.ts';
import { buildRecords } from '../../../src/source/manifests/build.ts';
import type { SourceDocument } from '../../../src/source/manifests/document.ts';
import { parseYamlDocuments } from '../../../src/source/manifests/yaml-documents.ts';
import { Store } from '../../../src/source/store.ts';
import { ScenarioError, type Scenario, type Step, type Table } from './parse.ts';
import { NODE_MANIFEST, NODE_NAME, SERVICE_CIDRS } from './world.ts';

export interface State {
  readonly snapshot: Snapshot;
  /** The same, resolved from nothing: what increments have to equal. */
  readonly full: Snapshot;
  readonly tables: readonly Table[];
}

/** Every step's state in turn, and an empty cluster as the last. Throws ScenarioError with file and line. */
export function statesOf(scenario: Scenario): { readonly steps: readonly State[]; readonly empty: Snapshot } {
  const { file } = scenario;
  const store = new Store();
  let documents = new Map<string, SourceDocument>();
  let resolution: Resolution | undefined;
  const load = (): State => {
    const node = parseYamlDocuments(file, NODE_MANIFEST).documents.filter(
      (document) => !documents.has(nameOf(document)),
    );
    const built = buildRecords([...node, ...documents.values()], {
      clusterIPRanges: SERVICE_CIDRS,
      nodeName: NODE_NAME,
    });
    const [error] = built.errors;
    if (error) throw new ScenarioError(file, error.line, error.message);
    store.replaceAll(built.entries);
    const identity = nodeIdentity(store.records, NODE_NAME);
    resolution = resolve(store.records, identity, resolution);
    return { snapshot: resolution.snapshot, full: resolve(store.records, identity).snapshot, tables: [] };
  };
  const steps = scenario.steps.map((step) => {
    documents = applyStep(file, documents, step);
    return { ...load(), tables: step.tables };
  });
  documents = new Map();
  return { steps, empty: load().snapshot };
}

function applyStep(file: string, before: ReadonlyMap<string, SourceDocument>, step: Step): Map<string, SourceDocument> {
  const documents = new Map(before);
  for (const { kind, namespace, name } of step.remove) {
    const key = `${kind} ${namespace}/${name}`;
    if (!documents.delete(key)) throw new ScenarioError(file, 1, `there is no ${key} to delete`);
  }
  if (!step.apply) return documents;
  const read = parseYamlDocuments(file, step.apply.text, step.apply.line);
  const [error] = read.errors;
  if (error) throw new ScenarioError(file, error.line, error.message);
  for (const document of read.documents) documents.set(nameOf(document), document);
  return documents;
}

function nameOf(document: SourceDocument): string {
  const object = document.object as { kind?: string; metadata?: { namespace?: string; name?: string } };
  return `${object?.kind} ${object?.metadata?.namespace ?? ''}/${object?.metadata?.name}`;
}
