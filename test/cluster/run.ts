// `KUBECONFIG=FILE npm run test:cluster`: the cases of cases.ts against a real cluster.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

process.exitCode = main(process.env['KUBECONFIG'] ?? '');

function main(kubeconfig: string): number {
  if (kubeconfig === '' || !existsSync(kubeconfig)) {
    const problem = kubeconfig === '' ? 'KUBECONFIG is not set' : `KUBECONFIG: there is no file ${kubeconfig}`;
    console.error(`${problem}; set it to the kubeconfig of the cluster to test against:
  KUBECONFIG=FILE npm run test:cluster
Its current context has to be allowed to create and delete namespaces and IngressClasses, and Services, EndpointSlices and Ingresses in them, and to read
what each role reads. What the tests create is deleted in the end: a namespace and an IngressClass called fairlead-test-….`);
    return 2;
  }
  const { status } = spawnSync('vitest', ['run', '--config=test/cluster/vitest.config.ts'], { stdio: 'inherit' });
  return status ?? 1;
}
