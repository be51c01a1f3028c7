import { clusterCases } from './cases.ts';
import { ClusterTarget } from './target.ts';

clusterCases('on the API server for tests', () => ClusterTarget.openTestServer());
