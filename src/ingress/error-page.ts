// The request for the page of an error, and what it says of the one that failed (ingress-nginx' custom error service).

import { portText } from './backend.ts';
import { requestIdLine } from './http/request-id.ts';
import type { Location } from './host-routes.ts';
import type { TemplateRequest } from './annotations/template.ts';

/** Lines that say which error it is; the values are those of objects and of a request head that was read. */
export function errorFields(status: number, location: Location, request: TemplateRequest): string {
  const { backend, ingress } = location;
  const service = backend.backend.kind === 'service' ? backend.backend : undefined;
  const accept = (request.header('accept') ?? '').replace(/[^\u0020-\u007e]/g, '');
  return [
    `X-Code: ${status}`,
    ...(accept === '' ? [] : [`X-Format: ${accept}`]),
    `X-Original-URI: ${request.path}${request.query}`,
    `X-Namespace: ${ingress.namespace}`,
    `X-Ingress-Name: ${ingress.name}`,
    ...(service ? [`X-Service-Name: ${service.service}`, `X-Service-Port: ${portText(service.port)}`] : []),
    '',
  ].join('\r\n');
}

/** The whole request; `fields` of errorFields. It has no body, and asks for the head alone where the client did. */
export function errorRequest(fields: string, request: TemplateRequest, requestId: string): string {
  const method = request.method === 'HEAD' ? 'HEAD' : 'GET';
  return `${method} / HTTP/1.1\r\nHost: ${request.host}\r\n${fields}${requestIdLine(requestId)}\r\n`;
}
