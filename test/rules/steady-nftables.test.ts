import { steadyCases } from '../support/steady-cases.ts';

steadyCases('nftables', ({ topology }) => topology.node.run('nft', 'flush', 'ruleset'));
