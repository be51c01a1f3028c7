// What is told of an object in the cluster: an Event, where Events can be written.

import type { ObjectKey } from '../model/records.ts';

export interface IngressNotice {
  readonly about: 'Ingress' | 'ConfigMap';
  readonly key: ObjectKey;
  /** Of the object, where it is known; filled in by the plane. */
  readonly uid?: string;
  readonly type: 'Normal' | 'Warning';
  /** One word, as `kubectl describe` shows it. */
  readonly reason: string;
  readonly note: string;
}

export type Tell = (notice: IngressNotice) => void;
