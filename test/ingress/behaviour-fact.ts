// The form of the facts in `behaviour.json`.

import type { PathSpec } from './world.ts';

export interface Fact {
  readonly id: string;
  readonly title: string;
  readonly conformance?: true;
  readonly config?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  readonly secrets?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly services?: Readonly<Record<string, string>>;
  readonly given?: readonly string[];
  readonly ingresses: readonly FactIngress[];
  readonly steps: readonly Step[];
}

export interface FactBackend {
  readonly service?: string;
  readonly port?: number | string;
}

export interface FactIngress {
  readonly name: string;
  readonly ingressClassName?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly defaultBackend?: FactBackend;
  readonly rules?: readonly {
    readonly host?: string;
    readonly paths?: readonly (FactBackend & { readonly path?: string; readonly pathType?: PathSpec['pathType'] })[];
  }[];
  readonly tls?: readonly { readonly hosts?: readonly string[]; readonly secretName?: string }[];
}

export interface Step {
  readonly update?: {
    readonly annotations?: Readonly<Record<string, string>>;
    readonly config?: Readonly<Record<string, string>>;
    readonly pathType?: PathSpec['pathType'];
    /** What answers for it is gone. */
    readonly deleteService?: string;
    /** Who had the class in an annotation has it in the field, and the other way round. */
    readonly swap?: string;
  };
  /** Null: the settings in force are looked at. */
  readonly request: FactRequest | null;
  readonly expect: FactExpectation;
}

export interface FactRequest {
  readonly method?: string;
  readonly scheme?: string;
  readonly host?: string | null;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly repeat?: number;
  /** So many at one time; `slowecho` answers when all of them have arrived or were answered. */
  readonly parallel?: number;
  readonly basicAuth?: string;
  readonly bodyBytes?: number;
  readonly cookie?: string;
  readonly sni?: string;
  readonly clientCert?: string;
  /** The line in front of everything. */
  readonly proxyProtocol?: string;
  readonly protocol?: 'grpc-h2c';
  /** The last Ingress is reviewed for its creation. */
  readonly admissionReview?: string;
}

export interface FactExpectation {
  readonly status?: number | string;
  readonly statusCounts?: Readonly<Record<string, number>>;
  readonly atLeastOne?: number;
  readonly location?: string;
  readonly locationContains?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly headersContain?: Readonly<Record<string, string | readonly string[]>>;
  readonly headersNotContain?: Readonly<Record<string, string | readonly string[]>>;
  readonly absentHeaders?: readonly string[];
  readonly presentHeaders?: readonly string[];
  readonly noCookie?: boolean | string;
  readonly capture?: { readonly cookie?: string };
  readonly distinctPods?: number | string;
  readonly perPodCount?: number;
  /** `>=0.40` of the requests. */
  readonly serviceShare?: Readonly<Record<string, string>>;
  readonly grpcStatus?: number;
  readonly allowed?: boolean;
  readonly logContains?: string;
  /** On the first Ingress. */
  readonly events?: { readonly reason: string; readonly present: boolean };
  readonly tls?: { readonly issuerCN?: string; readonly secret?: string };
  readonly effective?: EffectiveSettings;
  readonly upstream?: {
    readonly service?: string;
    readonly method?: string;
    readonly path?: string;
    readonly host?: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly headersNot?: Readonly<Record<string, string>>;
    readonly absentHeaders?: readonly string[];
    readonly attempts?: number;
  };
}

export interface EffectiveSettings {
  readonly intercept?: readonly number[];
  readonly errorBackend?: string;
  readonly bodySize?: string;
  readonly cookieDomain?: string;
  readonly cookiePath?: string;
  readonly httpVersion?: string;
  readonly mirror?: string;
  readonly mirrorBody?: string;
  readonly proxySsl?: Readonly<Record<string, string | number>>;
}
