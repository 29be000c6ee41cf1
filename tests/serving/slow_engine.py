"""The oracle: one engine, written as plainly as it can be, token by token, request by request.

It shares no code with the simulator. No prefix cache, no speculation: those have tests of their
own. Scheduling rules are vLLM V1's, in its order.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Req:
    number: int
    arrival: float
    prompt: int
    output: int
    computed: int = 0
    done: int = 0
    blocks: int = 0
    preempted: int = 0
    token_times: list[float] = field(default_factory=list)
    admitted: float = -1.0
    decoding: bool = False

    @property
    def target(self) -> int:
        """Tokens to have computed before the next answer token comes."""
        return self.prompt + self.done


@dataclass
class SlowEngine:
    blocks: int
    size: int
    budget: int
    seqs: int
    long: int
    watermark: int
    whole: bool
    step_time: object
    alone: bool = False
    promise: bool = False
    free: int = 0
    waiting: list[Req] = field(default_factory=list)
    running: list[Req] = field(default_factory=list)

    def need(self, tokens: int) -> int:
        return (tokens + self.size - 1) // self.size

    def preempt(self) -> Req:
        victim = self.running.pop()
        self.free += victim.blocks
        victim.blocks = 0
        victim.computed = 0
        victim.decoding = False
        victim.preempted += 1
        self.waiting.insert(0, victim)
        return victim

    def chunk(self, left: int, budget: int) -> int:
        if 0 < self.long < left and len(self.running) + len(self.waiting) > 1:
            left = self.long
        return min(left, budget)

    def schedule(self, now: float) -> list[tuple[Req, int]]:
        if not self.alone:
            # Decoding requests first, then prompts under way (the order only matters when a
            # per-request limit leaves several prompts half done).
            order = [r for r in self.running if r.decoding]
            order += [r for r in self.running if r not in order]
            return self.fill(order, True, now)
        plan = self.fill([r for r in self.running if not r.decoding], True, now)
        return plan or self.fill([r for r in self.running if r.decoding], False, now)

    def fill(self, order: list[Req], admits: bool, now: float) -> list[tuple[Req, int]]:
        budget = self.budget
        plan: list[tuple[Req, int]] = []
        preempted = False
        for req in order:
            if req not in self.running or budget <= 0:
                continue
            new = self.chunk(req.target - req.computed, budget)
            wanted = max(self.need(req.computed + new) - req.blocks, 0)
            while wanted > self.free:
                preempted = True
                victim = self.preempt()
                budget += sum(tokens for one, tokens in plan if one is victim)
                plan = [(one, tokens) for one, tokens in plan if one is not victim]
                if victim is req:
                    break
            if req not in self.running:
                continue
            self.free -= wanted
            req.blocks += wanted
            plan.append((req, new))
            budget -= new
        if not admits or preempted:
            return plan
        while self.waiting and budget > 0 and len(self.running) < self.seqs:
            req = self.waiting[0]
            new = self.chunk(req.target, budget)
            must = self.need(req.target if self.whole else new)
            others = plan or any(r.decoding for r in self.running)
            if must + (self.watermark if others else 0) > self.free:
                break
            if self.promise and sum(map(self.most, [*self.running, req])) > self.blocks:
                break
            self.waiting.pop(0)
            self.running.append(req)
            req.blocks = self.need(new)
            self.free -= req.blocks
            plan.append((req, new))
            budget -= new
            if req.admitted < 0:
                req.admitted = now
        return plan

    def most(self, req: Req) -> int:
        return self.need(req.prompt + req.output + 1)

    def serve(self, requests: list[Req]) -> list[Req]:
        self.free = self.blocks
        coming = sorted(requests, key=lambda r: (r.arrival, r.number))
        now = 0.0
        while coming or self.waiting or self.running:
            if not self.waiting and not self.running:
                now = max(now, coming[0].arrival)
            while coming and coming[0].arrival <= now:
                self.waiting.append(coming.pop(0))
            plan = self.schedule(now)
            if not plan:
                plan = self.schedule(now)  # all were thrown out: begin again
            assert plan, "nothing to run"
            assert 0 <= self.free <= self.blocks
            assert self.free + sum(r.blocks for r in self.running) == self.blocks
            now = now + self.step_time(plan)
            for req, new in plan:
                req.computed += new
                if req.computed == req.target:
                    req.done += 1
                    req.decoding = True
                    req.token_times.append(now)
                    if req.done == req.output:
                        self.running.remove(req)
                        self.free += req.blocks
                        req.blocks = 0
        return requests
