"""The formulas of docs/communication.md: bytes that all ranks send in one step, by set of axes, of a Llama or Mixtral."""
import collections

BUCKET_ALIGNMENT = 64        # elements at which packs begin; rows to which tables of the vocabulary are padded
ONE_SHOT_BYTES = 256 << 10   # all-reduces of up to this / ranks go whole to everybody
GATHERED_AHEAD = 2           # buckets that ZeRO-3 gathers ahead of use

# partial: elements and ranks of its ranges
Pack = collections.namedtuple("Pack", "name elements partial matrix expert", defaults=[False])


def padded(n):
    return (n + BUCKET_ALIGNMENT - 1) // BUCKET_ALIGNMENT * BUCKET_ALIGNMENT


def all_reduce(elements, ranks, element_bytes=4):
    size = elements * element_bytes
    return ranks * (ranks - 1) * size if size * ranks <= ONE_SHOT_BYTES else 2 * (ranks - 1) * size


class Layout:
    """A model, a batch and how both are split."""

    def __init__(self, model, batch, sequence, micro_batch, dp=1, tp=1, sp=False, cp=1, method="ring", pp=1,
                 chunks=None, stage_of_chunk=None, zero=1, shard=0, precision="f32", bucket_elements=1 << 20,
                 recompute="none", ep=1, etp=1):
        self.m, self.batch, self.sequence, self.micro = model, batch, sequence, micro_batch
        self.dp, self.tp, self.sp, self.cp, self.method, self.pp = dp, tp, sp and tp > 1, cp, method, pp
        self.zero, self.bf16, self.bucket_elements = zero, precision == "bf16", bucket_elements
        self.recompute = recompute
        self.c = 2 if self.bf16 else 4
        self.shard = (shard or dp) if zero else 1
        self.chunks = chunks or [model["layers"]]
        self.stage_of_chunk = stage_of_chunk or list(range(pp))
        self.passes = batch // dp // micro_batch
        self.rows = micro_batch * sequence // cp  # of a micro-batch on a rank
        self.shards = self.shard * cp if zero else 1
        self.experts, self.ep, self.etp = model.get("experts", 0), ep, etp
        # Experts lie on a grid of their own: ranks with the same part of the same ones, in groups that shard.
        same, replicas = dp * cp * tp // (ep * etp), dp // (shard or dp)
        self.er = replicas if same % replicas == 0 else 1
        self.es = same // self.er
        self.apart = self.experts > 0 and ep * etp * tp > 1

    # --- parameters of a rank -------------------------------------------------------------------------------------

    def vocabulary(self, rank):
        v = self.m["vocabulary"]
        return v * (rank + 1) // self.tp - v * rank // self.tp

    def packs(self, stage, rank):
        """In the order of declaration, of tensor-parallel rank `rank`."""
        m, tp, d = self.m, self.tp, self.m["width"]
        heads, kv = m["heads"] // tp, max(1, m["kv_heads"] // tp)
        head_dim = d // m["heads"]
        copies = max(1, tp // m["kv_heads"])
        norm = ((d, tp),) if self.sp else ()
        router = ((self.experts * d, tp),) if tp > 1 else ()
        shared = ((2 * kv * head_dim * d, copies),) if copies > 1 else ()
        first, last = stage == self.stage_of_chunk[0], stage == self.stage_of_chunk[-1]
        rows = self.vocabulary(rank)
        tied_apart = m["tied"] and self.stage_of_chunk[0] != self.stage_of_chunk[-1]
        table = Pack("embedding", padded(rows) * d, ((rows * d, 2),) if tied_apart else (), False)
        packs = [table] if first or (last and m["tied"]) else []
        layer = 0
        for chunk, count in enumerate(self.chunks):
            for i in range(layer, layer + count):
                if self.stage_of_chunk[chunk] != stage:
                    continue
                packs += [Pack(f"{i}.attention_norm", d, norm, False),
                          Pack(f"{i}.qkv", (heads + 2 * kv) * head_dim * d, shared, True),
                          Pack(f"{i}.out", d * heads * head_dim, (), True),
                          Pack(f"{i}.mlp_norm", d, norm, False)]
                if self.experts:
                    features = self.experts // self.ep * m["ffn"] // self.etp
                    packs += [Pack(f"{i}.router", self.experts * d, router, False),
                              Pack(f"{i}.gate_up", 2 * features * d, (), True, self.apart),
                              Pack(f"{i}.down", features * d, (), True, self.apart)]
                    continue
                packs += [Pack(f"{i}.gate_up", 2 * m["ffn"] // tp * d, (), True),
                          Pack(f"{i}.down", d * m["ffn"] // tp, (), True)]
            layer += count
        if last:
            packs.append(Pack("norm", d, norm, False))
            if not m["tied"]:
                packs.append(Pack("head", padded(rows) * d, (), True))
        return [p._replace(elements=padded(p.elements)) for p in packs]

    def buckets(self, stage, rank):
        """Lists of packs. One chunk a stage where the number of buckets matters."""
        families, order = {}, {}
        for i, pack in reversed(list(enumerate(self.packs(stage, rank)))):
            order[pack.name] = i
            apart = pack.matrix and self.zero == 3 and self.bf16
            buckets = families.setdefault((pack.partial and pack.partial[0][1], pack.name == "embedding" and
                                           bool(pack.partial), apart, pack.expert), [])
            limit = self.bucket_elements // 4 if len(buckets) <= 1 else self.bucket_elements
            if not buckets or sum(p.elements for p in buckets[-1]) + pack.elements > limit:
                buckets.append([])
            buckets[-1].append(pack)
        return sorted((b for family in families.values() for b in family), key=lambda b: -order[b[-1].name])

    def places(self):
        """Stages and tensor-parallel ranks: each has its part of the model."""
        return [(stage, rank) for stage in range(self.pp) for rank in range(self.tp)]

    # --- what travels ---------------------------------------------------------------------------------------------

    def bytes(self, rows_sent=0):
        """rows_sent: to experts on other ranks in a step, by all layers."""
        sent = collections.Counter()
        self.gradients(sent)
        self.partial_sums(sent)
        sent["tp"] += self.tensor_parallel()
        sent["cp"] += self.context_parallel()
        sent["pp"] += self.pipeline()
        if self.experts:
            self.expert_rows(sent, rows_sent)
        return {axes: int(n) for axes, n in sent.items() if n > 0}

    def axes(self, names):
        sizes = {"dr": self.dp // self.shard if self.zero else 1, "ds": self.shard if self.zero else self.dp,
                 "cp": self.cp, "tp": self.tp, "er": self.er, "es": self.es, "ep": self.ep, "etp": self.etp}
        return "+".join(name for name in names if sizes[name] > 1)

    def gradients(self, sent):
        cuts = max(self.shards, self.es if self.apart else 1) > 1
        for place in self.places():
            buckets = self.buckets(*place)
            for bucket in buckets:
                self.gradients_of(bucket, cuts, sent)
            if self.zero == 3 and cuts:
                sent["gather"] += self.gathered(buckets)

    def group(self, bucket):
        """Ranks that shard it, groups of them that hold the same, how many such sets there are a place, and axes."""
        if not bucket[0].expert:
            return self.shards, self.dp * self.cp // self.shards, 1, ["ds", "cp"], ["dr"]
        # Places are tensor-parallel ranks, of which experts know nothing: all groups of a stage, dealt over them.
        shards = self.es if self.zero else 1
        return shards, self.es * self.er // shards, self.ep * self.etp / self.tp, ["es"], ["er"]

    def gradients_of(self, bucket, cuts, sent):
        n, replicas, sets, shard_axes, replica_axes = self.group(bucket)
        elements = sum(p.elements for p in bucket)
        if self.zero == 0:
            sent[self.axes(replica_axes + shard_axes)] += sets * all_reduce(elements, n * replicas)
            return
        times = self.passes if self.zero >= 2 and cuts and not bucket[0].partial else 1
        sent[self.axes(shard_axes)] += sets * replicas * times * (n - 1) * 4 * elements
        if self.zero < 3 or not cuts:
            sent[self.axes(shard_axes)] += sets * replicas * (n - 1) * 4 * elements
        if replicas > 1:  # of shards: together the bucket
            sent[self.axes(replica_axes)] += sets * n * all_reduce(elements // n, replicas)

    def partial_sums(self, sent):
        for stage, rank in self.places():
            for bucket in self.buckets(stage, rank):
                for elements, ranks in [r for p in bucket for r in p.partial]:
                    # Each place is one member of a group: its share.
                    sent["partial"] += self.dp * self.cp * all_reduce(elements, ranks) // ranks

    def gathered(self, buckets):
        """Of all buckets that are gathered in a step."""
        bucket_of = {p.name: i for i, b in enumerate(buckets) for p in b}
        names = [p.name for p in self.packs(0, 0)]
        backward = [n for n in reversed(names) if n != "embedding"]
        uses = [bucket_of[n] for _ in range(self.passes) for n in names + backward]
        order = [b for i, b in enumerate(uses) if i == 0 or b != uses[i - 1]]
        here, total = set(), 0
        for at in range(len(order)):
            wanted = set(order[at:at + 1 + GATHERED_AHEAD])
            total += sum(self.gather_bytes(buckets[b]) for b in wanted - here)
            here = wanted
        return total

    def gather_bytes(self, bucket):
        n, replicas, sets, _, _ = self.group(bucket)
        rounded = self.bf16 and all(p.matrix for p in bucket)
        return sets * replicas * (n - 1) * (2 if rounded else 4) * sum(p.elements for p in bucket)

    def tensor_parallel(self):
        n, m = self.tp, self.m
        if n == 1:
            return 0
        d = m["width"]

        def rows(element_bytes):
            return (n - 1) * self.rows * d * element_bytes

        def sum_of_rows():
            return all_reduce(self.rows * d, n, self.c)

        again = 2 if self.recompute == "full" else 1
        # One micro-batch of one group of ranks. All tokens of the bench are the first rank's: rows that are dealt to the
        # others cross.
        crossing = self.rows - self.rows // n
        embedding = crossing * d * 4 * (2 if self.sp else 1) + (0 if self.sp else rows(4))
        layer = (4 * again + 6) * rows(self.c) if self.sp else (2 * again + 2) * sum_of_rows()
        if self.experts:  # attention alone, and rows that are dealt to be routed, and joined again
            layer = ((2 * again + 3) * rows(self.c) if self.sp else
                     (again + 1) * sum_of_rows() + (again + 1) * rows(self.c))
        head = 8 * self.rows * n * (n - 1) + (2 * rows(self.c) if self.sp else sum_of_rows())
        return self.dp * self.cp * self.passes * (embedding + m["layers"] * layer + head)

    def expert_rows(self, sent, rows_sent):
        """Rows, their results and the gradients of both; how many come; and the choices of whole sequences."""
        m, again = self.m, 2 if self.recompute == "full" else 1
        places, stages = self.ep * self.etp, self.passes * m["layers"]
        if places > 1:
            groups = self.dp * self.cp * self.tp // places
            counts = groups * places * (places - 1) * (self.experts // self.ep) * 4
            sent[self.axes(["ep", "etp"])] += again * stages * counts + (2 * again + 2) * rows_sent * m["width"] * self.c
        n = self.cp * self.tp
        if n > 1 and (m.get("balance_loss") or m.get("capacity")):
            choices = self.micro * self.sequence * m["choices"]
            sent[self.axes(["cp", "tp"])] += again * self.dp * stages * (n - 1) * choices * 4

    def context_parallel(self):
        n, m = self.cp, self.m
        if n == 1:
            return 0
        head_dim, again = m["width"] // m["heads"], 2 if self.recompute == "full" else 1
        heads, kv = m["heads"] // self.tp, max(1, m["kv_heads"] // self.tp)
        if self.method == "ring":
            columns = 2 * kv * head_dim
            rank = (n - 1) * self.rows * columns * (again * self.c + self.c + 4)
        else:
            rank = (again + 1) * (n - 1) * self.rows * self.c * head_dim * 2 * (heads // n + max(1, kv // n))
        return n * self.dp * self.tp * self.passes * m["layers"] * rank

    def pipeline(self):
        hops = sum(a != b for a, b in zip(self.stage_of_chunk, self.stage_of_chunk[1:]))
        copies = 1 if self.sp else self.tp
        return 2 * hops * self.dp * self.cp * copies * self.passes * self.rows * self.m["width"] * 4
