import { steadyCases } from '../support/steady-cases.ts';

steadyCases('ipvs', ({ topology }) => topology.node.run('ipvsadm', '-C'));
