// ingress-nginx' flags that no other command has. What each means stands in `ingress-settings.ts`.

import { flagOf, flagWithoutEffect, type Flag, type FlagKind } from './flag.ts';

const flag = (kind: FlagKind, name: string, help: string, rest: Pick<Flag, 'value' | 'fallback'> = {}): Flag =>
  flagOf('ingress', kind, name, help, rest);

const nothing = (kind: FlagKind, name: string, value?: string): Flag => flagWithoutEffect('ingress', kind, name, value);

/** Settings of nginx' own machinery, of profilers and of GeoIP databases. */
const WITHOUT_EFFECT: readonly Flag[] = [
  nothing('text', 'sync-rate-limit', 'NUMBER'),
  nothing('text', 'sync-period', 'DURATION'),
  nothing('text', 'dynamic-configuration-retries', 'N'),
  nothing('text', 'default-server-port', 'PORT'),
  nothing('text', 'status-port', 'PORT'),
  nothing('text', 'stream-port', 'PORT'),
  nothing('text', 'ssl-passthrough-proxy-port', 'PORT'),
  nothing('text', 'profiler-port', 'PORT'),
  nothing('switch', 'profiling'),
  nothing('text', 'profiler-address', 'IP'),
  nothing('text', 'internal-logger-address', 'IP:PORT'),
  nothing('text', 'monitor-max-batch-size', 'N'),
  nothing('text', 'health-check-timeout', 'N'),
  nothing('switch', 'disable-full-test'),
  nothing('switch', 'enable-ssl-chain-completion'),
  nothing('text', 'maxmind-edition-ids', 'LIST'),
  nothing('text', 'maxmind-license-key', 'KEY'),
  nothing('text', 'maxmind-mirror', 'URL'),
  nothing('text', 'maxmind-retries-count', 'N'),
  nothing('text', 'maxmind-retries-timeout', 'DURATION'),
  nothing('text', 'bucket-factor', 'NUMBER'),
  nothing('text', 'max-buckets', 'N'),
];

export const INGRESS_FLAGS: readonly Flag[] = [
  flag(
    'text',
    'tcp-services-configmap',
    'the ConfigMap of TCP ports that are passed on as they are: 9000: NAMESPACE/SERVICE:PORT, with :PROXY to read the PROXY protocol, again to send it',
    { value: 'NS/NAME', fallback: 'none' },
  ),
  flag('text', 'udp-services-configmap', 'the same for UDP, without PROXY', { value: 'NS/NAME', fallback: 'none' }),
  flag('text', 'publish-service', "the Service in front: its addresses become every Ingress' status", {
    value: 'NS/NAME',
  }),
  flag('list', 'publish-status-address', 'these addresses or names become the status, whatever --publish-service has', {
    value: 'ADDRESS',
  }),
  flag(
    'switch',
    'report-node-internal-ip-address',
    'without the two above: InternalIPs of the nodes, not ExternalIPs',
    {
      fallback: 'false',
    },
  ),
  flag('switch', 'update-status', 'write the status of Ingresses (the leader does)', { fallback: 'true' }),
  flag('switch', 'update-status-on-shutdown', 'take the status away when the last replica stops', { fallback: 'true' }),
  flag('text', 'status-update-interval', 'seconds between two looks at the status', { value: 'N', fallback: '60' }),
  flag('text', 'election-id', 'the Lease of the leader, in the namespace of the Pod', {
    value: 'NAME',
    fallback: 'ingress-controller-leader',
  }),
  flag('text', 'election-ttl', 'after this time without a sign of the leader another one leads', {
    value: 'DURATION',
    fallback: '30s',
  }),
  flag('switch', 'disable-leader-election', 'write the status without being the leader', { fallback: 'false' }),
  flag('switch', 'disable-sync-events', 'no Event "Sync" for each new and changed Ingress', { fallback: 'false' }),
  flag('text', 'validating-webhook', 'review Ingresses for the API server here, before they are written', {
    value: '[IP]:PORT',
    fallback: 'no webhook',
  }),
  flag('text', 'validating-webhook-certificate', 'its certificate in PEM; read again when it changes', {
    value: 'FILE',
  }),
  flag('text', 'validating-webhook-key', 'the key of the certificate', { value: 'FILE' }),
  flag('switch', 'disable-catch-all', 'refuse Ingresses that are a default backend without rules', {
    fallback: 'false',
  }),
  flag('switch', 'deep-inspect', 'the webhook refuses hosts and paths that look like an attack', { fallback: 'true' }),
  flag('switch', 'enable-annotation-validation', 'the webhook refuses annotations whose values cannot be read', {
    fallback: 'true',
  }),
  flag('text', 'watch-namespace-selector', 'take Ingresses of namespaces with these labels only', {
    value: 'SELECTOR',
    fallback: 'all',
  }),
  flag('text', 'certificate-authority', "the API server's CA, in place of the one of the kubeconfig", {
    value: 'FILE',
  }),
  flag('text', 'healthz-host', 'address of /metrics and /healthz', { value: 'IP', fallback: 'every address' }),
  flag('text', 'health-check-path', 'path of the health check', { value: 'PATH', fallback: '/healthz' }),
  flag('switch', 'metrics-per-host', 'metrics of requests have a label for the host', { fallback: 'true' }),
  flag('switch', 'metrics-per-undefined-host', 'hosts that no Ingress names have a label, too (1,000 at most)', {
    fallback: 'false',
  }),
  flag('switch', 'report-status-classes', '2xx, 3xx … in the place of each status', { fallback: 'false' }),
  flag('list', 'exclude-socket-metrics', 'histograms that are left out', { value: 'NAME' }),
  flag('list', 'time-buckets', 'buckets of the times, in seconds', { value: 'NUMBER', fallback: '0.005 to 10' }),
  flag('list', 'length-buckets', 'buckets of request and answer sizes', { value: 'NUMBER', fallback: '10 to 100' }),
  flag('list', 'size-buckets', 'buckets of bytes_sent', { value: 'NUMBER', fallback: '10 to 10000000' }),
  flag('switch', 'enable-metrics', 'answer /metrics', { fallback: 'true' }),
  flag(
    'text',
    'shutdown-grace-period',
    'seconds between the signal to stop, from which health checks fail, and the stop',
    {
      value: 'N',
      fallback: '0',
    },
  ),
  flag('text', 'post-shutdown-grace-period', 'seconds between the stop and the end of the process', {
    value: 'N',
    fallback: '0',
  }),
  flag(
    'switch',
    'enable-topology-aware-routing',
    "heed the zone hints of endpoints; needs this Node's name (--node-name)",
    {
      fallback: 'false',
    },
  ),
  ...WITHOUT_EFFECT,
];
