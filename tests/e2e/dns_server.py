"""A name server for one name: dns_server.py ADDRESS NAME ANSWER. Everything else does not exist."""

import sys
import threading

from dnslib import QTYPE, RCODE, RR, A
from dnslib.server import BaseResolver, DNSServer


class OneName(BaseResolver):
    def __init__(self, name, answer):
        self.name, self.answer = name, answer

    def resolve(self, request, handler):
        reply = request.reply()
        if request.q.qname != self.name:
            reply.header.rcode = RCODE.NXDOMAIN
        elif request.q.qtype == QTYPE.A:
            reply.add_answer(RR(self.name, QTYPE.A, rdata=A(self.answer), ttl=5))
        return reply


if __name__ == "__main__":
    address, name, answer = sys.argv[1:]
    DNSServer(OneName(name, answer), address=address).start_thread()
    print("answering", flush=True)
    threading.Event().wait()
