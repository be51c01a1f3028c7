import { clusterCases } from './cases.ts';
import { ClusterTarget } from './target.ts';

const kubeconfig = process.env['KUBECONFIG'] ?? '';

clusterCases(`on the cluster of ${kubeconfig}`, () => ClusterTarget.open(kubeconfig));
