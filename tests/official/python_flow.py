"""The life of a subscription with Stripe's own Python library, against the sandbox.

    python_flow.py http://127.0.0.1:12111
"""

import queue
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import stripe

URL = sys.argv[1]
SUCCESS = "http://merchant.example/back?session={CHECKOUT_SESSION_ID}"
client = stripe.StripeClient("sk_test_python", base_addresses={"api": URL}, max_network_retries=0)
deliveries = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        deliveries.put((body, self.headers["stripe-signature"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args, **kwargs):
        return None


def submit(session_url, **fields):
    """Posts the form of a page; where it leads, or the status of the page that comes back."""
    data = urllib.parse.urlencode(fields).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
    try:
        return opener.open(session_url, data).status
    except urllib.error.HTTPError as answer:
        return answer.headers["location"] if answer.code == 303 else answer.code


def enrol():
    customer = client.v1.customers.create({"email": "pat@example.com", "name": "Pat", "metadata": {"ref": "a1"}})
    session = client.v1.checkout.sessions.create({
        "mode": "setup", "customer": customer.id, "currency": "usd", "success_url": SUCCESS,
        "setup_intent_data": {"metadata": {"enrolment": "e1"}},
    })
    assert session.status == "open" and session.url.startswith(URL)
    to = submit(session.url, card="4242 4242 4242 4242", exp="12/40", cvc="123")
    assert to == SUCCESS.replace("{CHECKOUT_SESSION_ID}", session.id), to
    session = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["setup_intent.payment_method"]})
    intent = session.setup_intent
    assert (session.status, intent.status, intent.usage) == ("complete", "succeeded", "off_session")
    assert intent.payment_method.customer == customer.id and intent.payment_method.card.last4 == "4242"
    assert client.v1.setup_intents.retrieve(intent.id).metadata["enrolment"] == "e1"
    return customer, intent.payment_method


def charge(customer, card, key):
    return client.v1.payment_intents.create({
        "amount": 1099, "currency": "usd", "customer": customer.id, "payment_method": card.id, "off_session": True,
        "confirm": True, "allowed_payment_method_types": ["card"], "metadata": {"due": key},
    }, {"idempotency_key": key})


def pay_and_decline(customer, card):
    first, again = charge(customer, card, "due-1"), charge(customer, card, "due-1")
    assert first.status == "succeeded" and first.id == again.id
    assert again.last_response.headers["idempotent-replayed"] == "true"
    bad = client.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer.id})
    try:
        charge(customer, bad, "due-2")
        raise AssertionError("the charge should have been declined")
    except stripe.CardError as error:
        assert (error.http_status, error.code) == (402, "card_declined")
        failed = error.error.payment_intent
        assert failed.status == "requires_payment_method" and failed.metadata["due"] == "due-2"
    paid = client.v1.payment_intents.confirm(failed.id, {"payment_method": card.id, "off_session": True})
    assert paid.status == "succeeded"
    try:
        charge(customer, bad, "due-1")
        raise AssertionError("the key should have been refused")
    except stripe.IdempotencyError as error:
        assert error.http_status == 400
    assert client.v1.refunds.create({"payment_intent": paid.id}).status == "succeeded"


def pay_by_link(customer):
    fields = {
        "mode": "payment", "customer": customer.id, "success_url": SUCCESS, "cancel_url": "http://merchant.example/",
        "line_items": [{"quantity": 1, "price_data": {
            "currency": "usd", "unit_amount": 2900, "product_data": {"name": "January"}}}],
        "payment_intent_data": {"setup_future_usage": "off_session", "metadata": {"due": "due-3"}},
    }
    session = client.v1.checkout.sessions.create(fields)
    assert submit(session.url, card="4000000000009995") == 402
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert submit(session.url, card="4000002760003184") == f"/c/pay/{session.id}/3ds"
    assert submit(session.url + "/3ds", answer="complete").startswith("http://merchant.example/back")
    session = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent", "line_items"]})
    assert (session.payment_status, session.payment_intent.status) == ("paid", "succeeded")
    assert session.line_items.data[0].description == "January"
    other = client.v1.checkout.sessions.create(fields)
    assert client.v1.checkout.sessions.expire(other.id).status == "expired"
    try:
        client.v1.checkout.sessions.expire(other.id)
        raise AssertionError("an expired session cannot expire")
    except stripe.InvalidRequestError as error:
        assert error.http_status == 400


def page_through(customer):
    for number in range(12):
        client.v1.payment_intents.create({"amount": 1000 + number, "currency": "usd", "customer": customer.id})
    page = client.v1.payment_intents.list({"customer": customer.id, "limit": 5})
    ids = [intent.id for intent in page.auto_paging_iter()]
    assert len(ids) == len(set(ids)) >= 15, len(ids)


def hear():
    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    endpoint = client.v1.webhook_endpoints.create({
        "url": f"http://127.0.0.1:{receiver.server_port}/hook", "enabled_events": ["customer.created"]})
    customer = client.v1.customers.create({"email": "hook@example.com"})
    body, signature = deliveries.get(timeout=20)
    event = stripe.Webhook.construct_event(body, signature, endpoint.secret)
    assert (event.type, event.data.object.id) == ("customer.created", customer.id)
    try:
        stripe.Webhook.construct_event(body + b" ", signature, endpoint.secret)
        raise AssertionError("a changed body should have been refused")
    except stripe.SignatureVerificationError:
        pass
    client.v1.webhook_endpoints.delete(endpoint.id)
    receiver.shutdown()


customer, card = enrol()
pay_and_decline(customer, card)
pay_by_link(customer)
page_through(customer)
hear()
print(f"python stripe {stripe.VERSION}, API {stripe.api_version}: everything went well")
