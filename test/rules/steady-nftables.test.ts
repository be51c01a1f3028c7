import { steadyCases } from '../support/steady-cases.ts';

steadyCases('nftables');
