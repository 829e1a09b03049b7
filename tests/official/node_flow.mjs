// The life of a subscription with Stripe's own Node library, against the sandbox.
//
//     node node_flow.mjs http://127.0.0.1:12111
//
// It pins the API version that recurd pins; the Python flow uses its library's newest one.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';

// The library lies where scripts/test-official.sh has put it.
const require = createRequire(join(process.env.NODE_FLOW_MODULES, 'package.json'));
const Stripe = require('stripe');

const url = new URL(process.argv[2]);
const success = 'http://merchant.example/back?session={CHECKOUT_SESSION_ID}';
const stripe = new Stripe('sk_test_node', {
  protocol: 'http', host: url.hostname, port: url.port, apiVersion: '2026-05-27.dahlia', maxNetworkRetries: 0,
});

async function submit(page, fields) {
  const answer = await fetch(page, { method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' });
  return answer.status === 303 ? answer.headers.get('location') : answer.status;
}

async function enrol() {
  const customer = await stripe.customers.create({ email: 'pat@example.com' });
  const opened = await stripe.checkout.sessions.create({
    mode: 'setup', customer: customer.id, payment_method_types: ['card'], success_url: success,
  });
  const to = await submit(opened.url, { card: '4000002500003155' });
  assert.equal(to, `/c/pay/${opened.id}/3ds`);
  assert.match(await submit(`${opened.url}/3ds`, { answer: 'complete' }), /^http:\/\/merchant\.example/);
  const session = await stripe.checkout.sessions.retrieve(opened.id, { expand: ['setup_intent'] });
  assert.equal(session.setup_intent.status, 'succeeded');
  return [customer.id, session.setup_intent.payment_method];
}

const charge = (customer, card, key) => stripe.paymentIntents.create({
  amount: 1099, currency: 'usd', customer, payment_method: card, off_session: true, confirm: true,
  payment_method_types: ['card'], metadata: { due: key },
}, { idempotencyKey: key });

async function payAndDecline(customer, card) {
  assert.equal((await charge(customer, card, 'node-1')).status, 'succeeded');
  const bad = await stripe.paymentMethods.attach('pm_card_sandbox_fundsOnceThenGood', { customer });
  const error = await charge(customer, bad.id, 'node-2').then(() => assert.fail('declined'), (error) => error);
  assert.ok(error instanceof Stripe.errors.StripeCardError);
  assert.equal(error.decline_code, 'insufficient_funds');
  assert.equal(error.payment_intent.status, 'requires_payment_method');
  const canceled = await stripe.paymentIntents.cancel(error.payment_intent.id);
  assert.equal(canceled.status, 'canceled');
  assert.equal((await charge(customer, bad.id, 'node-3')).status, 'succeeded');
}

async function payByLink(customer) {
  const fields = {
    mode: 'payment', customer, success_url: success,
    line_items: [{ quantity: 1, price_data: { currency: 'eur', unit_amount: 2900, product_data: { name: 'January' } } }],
  };
  const opened = await stripe.checkout.sessions.create(fields);
  assert.match(await submit(opened.url, { card: '5555555555554444' }), /^http:\/\/merchant\.example/);
  const session = await stripe.checkout.sessions.retrieve(opened.id, { expand: ['payment_intent.latest_charge'] });
  assert.equal(session.payment_status, 'paid');
  assert.equal(session.payment_intent.latest_charge.outcome.type, 'authorized');
  const items = await stripe.checkout.sessions.listLineItems(opened.id);
  assert.equal(items.data[0].amount_total, 2900);
  const other = await stripe.checkout.sessions.create(fields);
  assert.equal((await stripe.checkout.sessions.expire(other.id)).status, 'expired');
}

async function pageThrough(customer) {
  for (let amount = 1000; amount < 1012; amount += 1) {
    await stripe.paymentIntents.create({ amount, currency: 'usd', customer });
  }
  const found = await stripe.paymentIntents.list({ customer, limit: 5 }).autoPagingToArray({ limit: 100 });
  assert.ok(new Set(found.map((intent) => intent.id)).size >= 15);
  const events = await stripe.events.list({ types: ['payment_intent.succeeded'], limit: 1 });
  assert.equal(events.data[0].data.object.object, 'payment_intent');
}

async function hear() {
  const heard = Promise.withResolvers?.() ?? {};
  heard.promise ??= new Promise((resolve) => { heard.resolve = resolve; });
  const receiver = createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      response.writeHead(200).end();
      heard.resolve([Buffer.concat(parts), request.headers['stripe-signature']]);
    });
  });
  await new Promise((resolve) => { receiver.listen(0, '127.0.0.1', resolve); });
  const endpoint = await stripe.webhookEndpoints.create({
    url: `http://127.0.0.1:${receiver.address().port}/hook`, enabled_events: ['customer.created'],
  });
  const customer = await stripe.customers.create({ email: 'hook@example.com' });
  const [body, signature] = await heard.promise;
  const event = stripe.webhooks.constructEvent(body, signature, endpoint.secret);
  assert.equal(event.data.object.id, customer.id);
  await stripe.webhookEndpoints.del(endpoint.id);
  receiver.close();
}

const [customer, card] = await enrol();
await payAndDecline(customer, card);
await payByLink(customer);
await pageThrough(customer);
await hear();
console.log(`node stripe ${Stripe.PACKAGE_VERSION}, API 2026-05-27.dahlia: everything went well`);
process.exit(0);
