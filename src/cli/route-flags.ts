// The flags of what Ingress objects mean, for all commands that route by them or tell of it.

import type { Command, Flag } from './flag.ts';

const ROUTES: readonly Command[] = ['up', 'ingress', 'explain'];

export const ROUTE_FLAGS: readonly Flag[] = [
  {
    name: 'ingress-class',
    kind: 'text',
    value: 'NAME',
    help: 'take Ingresses whose annotation kubernetes.io/ingress.class has this value',
    commands: ROUTES,
    fallback: 'nginx',
  },
  {
    name: 'controller-class',
    kind: 'text',
    value: 'NAME',
    help: 'take Ingresses whose IngressClass has this controller',
    commands: ROUTES,
    fallback: 'k8s.io/ingress-nginx',
  },
  {
    name: 'watch-ingress-without-class',
    kind: 'switch',
    help: 'take Ingresses without a class too',
    commands: ROUTES,
    fallback: 'true with --manifests',
  },
  {
    name: 'ingress-class-by-name',
    kind: 'switch',
    help: 'take Ingresses whose ingressClassName is the name of --ingress-class, whatever controller the IngressClass has',
    commands: ROUTES,
    fallback: 'false',
  },
  {
    name: 'watch-namespace',
    kind: 'text',
    value: 'NAMESPACE',
    help: 'take Ingresses of this namespace only, and read nothing of others',
    commands: ['ingress', 'explain'],
    fallback: 'all',
  },
  {
    name: 'configmap',
    kind: 'text',
    value: 'NS/NAME',
    help: "the ConfigMap with the settings of every Ingress, with ingress-nginx' keys; nothing is served until it is there",
    commands: ROUTES,
  },
  {
    name: 'annotations-prefix',
    kind: 'text',
    value: 'PREFIX',
    help: 'annotations with this prefix are settings',
    commands: ROUTES,
    fallback: 'nginx.ingress.kubernetes.io',
  },
  {
    name: 'default-backend-service',
    kind: 'text',
    value: 'NS/NAME',
    help: 'the Service that takes requests that no rule takes, on its first port',
    commands: ROUTES,
    fallback: 'none; 404',
  },
  {
    name: 'default-ssl-certificate',
    kind: 'text',
    value: 'NS/NAME',
    help: 'the Secret with the certificate for hosts that have none of their own',
    commands: ['up', 'ingress'],
    fallback: 'one made at start',
  },
  {
    name: 'disable-svc-external-name',
    kind: 'switch',
    help: 'never forward to a Service of type ExternalName',
    commands: ROUTES,
    fallback: 'false',
  },
  {
    name: 'conformance',
    kind: 'switch',
    help: "where ingress-nginx and the Ingress API differ, as the API: no redirect to the slash at the end of a rule's path, none to HTTPS",
    commands: ROUTES,
    fallback: 'true with --manifests',
  },
  {
    name: 'enable-ssl-passthrough',
    kind: 'switch',
    help: 'pass TLS connections of hosts with the annotation ssl-passthrough to their backend as they are',
    commands: ROUTES,
    fallback: 'false',
  },
  {
    name: 'ssl-redirect',
    kind: 'switch',
    help: 'send HTTP requests for a host that has a certificate to HTTPS',
    commands: ROUTES,
    fallback: { up: 'false', ingress: 'true', explain: 'as that of the command of --as' },
  },
  {
    name: 'as',
    kind: 'text',
    value: 'ingress|up',
    help: 'ingress, with --manifests: the command whose answer is explained; their defaults differ',
    commands: ['explain'],
    fallback: 'ingress',
  },
];
