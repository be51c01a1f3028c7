/** A kubeconfig with one cluster, in JSON, which is YAML too; without a token nobody is named. */
export function kubeconfigOf(url: string, token?: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'it',
    contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
    clusters: [{ name: 'it', cluster: { server: url } }],
    users: [{ name: 'it', user: token === undefined ? {} : { token } }],
  });
}
