// The multi-order recurrence on a CPU: forward and backward over a plan of rows (see trie.py), float32, C ABI.
//
// A level's rows are cut into blocks of one cell. A block gathers its states, runs one register-tiled product against the
// cell's packed weights, and applies the gates while the block is in the L1 cache. Backward recomputes the gates and adds
// weight gradients into a buffer of the thread, so that results depend on the number of threads but not on timing.
//
// Where rows hold many examples, each thread takes some of the examples through all levels and waits for nobody: on a
// busy machine, a wait at every level costs a time slice of the scheduler each. Otherwise threads share a level's blocks.
//
// Letters: B batch, C cells, H hidden, P H padded to whole vectors, W label slots, N rows of a level, S examples a row.
// Columns of a block's gates, each P wide: reset, update, hidden part of the candidate, input part of the candidate.

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 6, kTileVectors = 4;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kTileRows = 6, kTileVectors = 2;
#else
constexpr int kLanes = 4, kTileRows = 4, kTileVectors = 3;
#endif
constexpr int kBlock = 48;  // rows of a block: gates of H = 64 take 48 KiB
typedef float Vec __attribute__((vector_size(kLanes * 4), aligned(4)));
typedef uint32_t Bits __attribute__((vector_size(kLanes * 4), aligned(4)));

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
inline Vec splat(float x) { return x - Vec{}; }

// e^x to about 1 ulp within [-87, 88], clamped outside; a NaN passes through both comparisons and stays one.
inline Vec exponential(Vec x) {
  x = x > 88.0f ? splat(88.0f) : x;
  x = x < -87.0f ? splat(-87.0f) : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  Vec shifted = x * 1.44269504088896341f + magic;
  Vec whole = shifted - magic;
  Vec f = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Vec p = f * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * f * f + f + 1.0f;
  Bits scale = ((Bits)shifted << 23) + 0x3f800000u;
  return p * (Vec)scale;
}
inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }
inline Vec hyperbolic_tangent(Vec x) { return 1.0f - 2.0f / (exponential(x + x) + 1.0f); }
inline float sum(Vec v) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

// out[m][n] += sum_k a[m * row + k * column] * b[k * ldb + n], for R rows and V vectors, accumulators in registers.
template <int R, int V>
inline void tile(int64_t depth, const float* a, int64_t row, int64_t column, const float* b, int64_t ldb, float* out,
                 int64_t ldo) {
  Vec sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = load(out + r * ldo + v * kLanes);
  for (int64_t k = 0; k < depth; ++k) {
    Vec right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) right[v] = load(b + k * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float left = a[r * row + k * column];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(out + r * ldo + v * kLanes, sums[r][v]);
}

template <int V>
inline void tile_rows(int64_t rows, int64_t depth, const float* a, int64_t row, int64_t column, const float* b, int64_t ldb,
                      float* out, int64_t ldo) {
  int64_t m = 0;
  for (; m + kTileRows <= rows; m += kTileRows)
    tile<kTileRows, V>(depth, a + m * row, row, column, b, ldb, out + m * ldo, ldo);
  for (; m + 2 <= rows; m += 2) tile<2, V>(depth, a + m * row, row, column, b, ldb, out + m * ldo, ldo);
  if (m < rows) tile<1, V>(depth, a + m * row, row, column, b, ldb, out + m * ldo, ldo);
}

// out (rows x columns) += a (rows x depth, strided) * b (depth x columns); columns is a multiple of kLanes.
void multiply_add(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t row, int64_t column, const float* b,
                  int64_t ldb, float* out, int64_t ldo) {
  int64_t n = 0;
  for (; n + kTileVectors * kLanes <= columns; n += kTileVectors * kLanes)
    tile_rows<kTileVectors>(rows, depth, a, row, column, b + n, ldb, out + n, ldo);
  for (; n < columns; n += kLanes) tile_rows<1>(rows, depth, a, row, column, b + n, ldb, out + n, ldo);
}

}  // namespace

extern "C" {

// Everything that one call needs; the field order is repeated in native.py.
struct Problem {
  // sizes
  int64_t batch, hidden, padded, slots, cells, depth, per_row, threads;
  // plan: row offsets of levels; per row its cell, parent within the level above, feeding cell and (per_row = 1) example
  const int64_t *offsets, *parent, *fed, *example;
  // runs of rows of one cell: group_offsets (depth + 1) into groups of (cell, begin, end) within the level
  const int64_t *group_offsets, *groups;
  // children of the rows above each level: child_offsets (depth) into child_start, and rows sorted by parent
  const int64_t *start_offsets, *child_start, *child_row;
  // inputs: initial (rows above level 0, S, P), labels (C, B, W), parameters as in CellWeights
  const float *initial, *labels, *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_out, *bias_out;
  // forward writes logits (rows, W, S) and states (rows but the last level's, S, P); backward reads the states
  float *logits, *states;
  // backward: incoming (rows, W, S); outgoing as the parameters; grad_inputs (rows, S, W); grad_initial as initial
  const float* grad_logits;
  float *grad_initial, *grad_inputs, *grad_weight_ih, *grad_weight_hh, *grad_bias_ih, *grad_bias_hh, *grad_weight_out,
      *grad_bias_out;
  float *packed, *sums, *level_grads;  // workspaces; see the *_floats functions
  int64_t level_stride;                // floats of one of the two level_grads buffers
  // OpenMP entry points of the library that torch itself uses, or null: then one thread runs
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
  void (*barrier)();
  int (*thread_num)();
  int (*num_threads)();
};

}  // extern "C"

namespace {

// Offsets within a cell's packed parameters, and within its sums, in floats.
struct Layout {
  int64_t forward_weight, backward_weight, bias, weight_ih, weight_out, size;
  explicit Layout(const Problem& p) {
    const int64_t P = p.padded, W = p.slots;
    forward_weight = 0;                           // (H, 3P): transposed, for states times weights
    backward_weight = p.hidden * 3 * P;           // (3P, P): for gate gradients times weights; as sums: their gradient
    bias = backward_weight + 3 * P * P;           // (4P)
    weight_ih = bias + 4 * P;                     // (W, 4P), 0 in the hidden part's column
    weight_out = weight_ih + W * 4 * P;           // (W, P)
    size = weight_out + W * P + (W + 15) / 16 * 16;  // bias_out's sums at the end
  }
};

struct Sums {
  int64_t weight, bias, weight_ih, weight_out, bias_out, size;
  explicit Sums(const Problem& p) {
    const int64_t P = p.padded, W = p.slots;
    weight = 0;
    bias = 3 * P * P;
    weight_ih = bias + 4 * P;
    weight_out = weight_ih + W * 4 * P;
    bias_out = weight_out + W * P;
    size = bias_out + (W + 15) / 16 * 16;
  }
};

void pack_cell(const Problem& p, const Layout& at, int64_t cell) {
  const int64_t H = p.hidden, P = p.padded, W = p.slots;
  float* out = p.packed + cell * at.size;
  std::memset(out, 0, sizeof(float) * at.size);
  const float* weight = p.weight_hh + cell * 3 * H * H;
  for (int64_t gate = 0; gate < 3; ++gate)
    for (int64_t j = 0; j < H; ++j) {
      const float* from = weight + (gate * H + j) * H;
      std::memcpy(out + at.backward_weight + (gate * P + j) * P, from, sizeof(float) * H);
      for (int64_t k = 0; k < H; ++k) out[at.forward_weight + k * 3 * P + gate * P + j] = from[k];
    }
  const float *bih = p.bias_ih + cell * 3 * H, *bhh = p.bias_hh + cell * 3 * H, *wih = p.weight_ih + cell * 3 * H * W;
  for (int64_t j = 0; j < H; ++j) {
    float* bias = out + at.bias + j;
    bias[0] = bih[j] + bhh[j];
    bias[P] = bih[H + j] + bhh[H + j];
    bias[2 * P] = bhh[2 * H + j];
    bias[3 * P] = bih[2 * H + j];
    for (int64_t w = 0; w < W; ++w) {
      float* column = out + at.weight_ih + w * 4 * P + j;
      column[0] = wih[j * W + w];
      column[P] = wih[(H + j) * W + w];
      column[3 * P] = wih[(2 * H + j) * W + w];
      out[at.weight_out + w * P + j] = p.weight_out[(cell * W + w) * H + j];
    }
  }
}

// One block: (row, example) pairs [begin, begin + rows) of a level, all of one cell, counted over the examples
// [first, first + width) of each row.
struct Block {
  int64_t level, cell, begin, rows, first, width;
  int64_t node(int64_t i) const { return (begin + i) / width; }
  int64_t lane(int64_t i) const { return first + (begin + i) % width; }
};

// A thread's share of the work: some examples of every row, or (all of them) some blocks of every level.
struct Share {
  int64_t thread, threads, first, width;
  bool by_example;
  Share(const Problem& p, int64_t thread, int64_t threads)
      : thread(thread), threads(threads), first(0), width(p.per_row), by_example(p.per_row >= threads) {
    if (!by_example) return;
    first = p.per_row * thread / threads;
    width = p.per_row * (thread + 1) / threads - first;
  }
};

// What a thread keeps on hand for its current block.
struct Scratch {
  float *state, *gates, *grad;  // (kBlock, P), (kBlock, 4P), (kBlock, P)
  float *inputs;                // (kBlock, W)
};

int64_t scratch_floats(const Problem& p) { return kBlock * (6 * p.padded + (p.slots + 15) / 16 * 16); }

Scratch scratch_at(const Problem& p, float* base) {
  const int64_t P = p.padded;
  return {base, base + kBlock * P, base + kBlock * 5 * P, base + kBlock * 6 * P};
}

// States before the step and the gates' sums before their nonlinearity.
void load_block(const Problem& p, const Layout& at, const Block& block, const Scratch& s) {
  const int64_t P = p.padded, W = p.slots, S = p.per_row;
  const float* packed = p.packed + block.cell * at.size;
  const float* above = block.level ? p.states + p.offsets[block.level - 1] * S * P : p.initial;
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t lane = block.lane(i), row = p.offsets[block.level] + block.node(i);
    std::memcpy(s.state + i * P, above + (p.parent[row] * S + lane) * P, sizeof(float) * P);
    float* gates = s.gates + i * 4 * P;
    std::memcpy(gates, packed + at.bias, sizeof(float) * 4 * P);
    const int64_t example = p.example ? p.example[row] : lane;
    for (int64_t w = 0; w < W; ++w) {
      const float label = block.level ? p.labels[(p.fed[row] * p.batch + example) * W + w] : 0.0f;
      s.inputs[i * W + w] = label;
      if (label == 0.0f) continue;  // false for NaN
      const float* column = packed + at.weight_ih + w * 4 * P;
      for (int64_t j = 0; j < 4 * P; j += kLanes) store(gates + j, load(gates + j) + label * load(column + j));
    }
  }
  multiply_add(block.rows, 3 * P, p.hidden, s.state, P, 1, packed + at.forward_weight, 3 * P, s.gates, 4 * P);
}

void forward_block(const Problem& p, const Layout& at, const Block& block, const Scratch& s) {
  load_block(p, at, block, s);
  const int64_t P = p.padded, W = p.slots, S = p.per_row;
  const float* packed = p.packed + block.cell * at.size;
  for (int64_t i = 0; i < block.rows; ++i) {
    float *state = s.state + i * P, *gates = s.gates + i * 4 * P;
    for (int64_t j = 0; j < P; j += kLanes) {
      const Vec reset = sigmoid(load(gates + j)), update = sigmoid(load(gates + P + j));
      const Vec candidate = hyperbolic_tangent(load(gates + 3 * P + j) + reset * load(gates + 2 * P + j));
      store(state + j, candidate + update * (load(state + j) - candidate));
    }
    const int64_t row = p.offsets[block.level] + block.node(i), lane = block.lane(i);
    if (block.level + 1 < p.depth) std::memcpy(p.states + (row * S + lane) * P, state, sizeof(float) * P);
    for (int64_t w = 0; w < W; ++w) {
      Vec total{};
      for (int64_t j = 0; j < P; j += kLanes) total += load(state + j) * load(packed + at.weight_out + w * P + j);
      p.logits[(row * W + w) * S + lane] = sum(total) + p.bias_out[block.cell * W + w];
    }
  }
}

// Gradient of the new state of every row, from the children and the output units, then through the gates.
void gate_gradients(const Problem& p, const Layout& at, const Sums& sums_at, const Block& block, const Scratch& s,
                    float* sums, const float* below) {
  const int64_t P = p.padded, W = p.slots, S = p.per_row;
  const float* packed = p.packed + block.cell * at.size;
  const int64_t* start = block.level + 1 < p.depth ? p.child_start + p.start_offsets[block.level + 1] : nullptr;
  const int64_t* child_row = start ? p.child_row + p.offsets[block.level + 1] : nullptr;
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t node = block.node(i), lane = block.lane(i);
    float *state = s.state + i * P, *gates = s.gates + i * 4 * P, *grad = s.grad + i * P;
    const float* incoming = p.grad_logits + (p.offsets[block.level] + node) * W * S + lane;
    for (int64_t j = 0; j < P; j += kLanes) {
      Vec after{};
      if (start)
        for (int64_t c = start[node]; c < start[node + 1]; ++c) after += load(below + (child_row[c] * S + lane) * P + j);
      for (int64_t w = 0; w < W; ++w) after += incoming[w * S] * load(packed + at.weight_out + w * P + j);
      const Vec reset = sigmoid(load(gates + j)), update = sigmoid(load(gates + P + j)), part = load(gates + 2 * P + j);
      const Vec candidate = hyperbolic_tangent(load(gates + 3 * P + j) + reset * part);
      const Vec before = load(state + j), difference = before - candidate;
      for (int64_t w = 0; w < W; ++w) {
        float* total = sums + sums_at.weight_out + w * P + j;
        store(total, load(total) + incoming[w * S] * (candidate + update * difference));
      }
      const Vec grad_candidate = after * (1.0f - update) * (1.0f - candidate * candidate);
      store(gates + j, grad_candidate * part * reset * (1.0f - reset));
      store(gates + P + j, after * difference * update * (1.0f - update));
      store(gates + 2 * P + j, grad_candidate * reset);
      store(gates + 3 * P + j, grad_candidate);
      store(grad + j, after * update);
    }
    for (int64_t w = 0; w < W; ++w) sums[sums_at.bias_out + w] += incoming[w * S];
  }
}

void backward_block(const Problem& p, const Layout& at, const Sums& sums_at, const Block& block, const Scratch& s,
                    float* thread_sums, const float* below, float* level_grad) {
  load_block(p, at, block, s);
  const int64_t P = p.padded, W = p.slots, S = p.per_row;
  const float* packed = p.packed + block.cell * at.size;
  float* sums = thread_sums + block.cell * sums_at.size;
  gate_gradients(p, at, sums_at, block, s, sums, below);
  multiply_add(block.rows, P, 3 * P, s.gates, 4 * P, 1, packed + at.backward_weight, P, s.grad, P);
  for (int64_t i = 0; i < block.rows; ++i)
    std::memcpy(level_grad + (block.node(i) * S + block.lane(i)) * P, s.grad + i * P, sizeof(float) * P);
  multiply_add(3 * P, P, block.rows, s.gates, 1, 4 * P, s.state, P, sums + sums_at.weight, P);
  for (int64_t j = 0; j < 4 * P; j += kLanes) {
    Vec bias = load(sums + sums_at.bias + j);
    for (int64_t i = 0; i < block.rows; ++i) bias += load(s.gates + i * 4 * P + j);
    store(sums + sums_at.bias + j, bias);
    for (int64_t w = 0; w < W && block.level; ++w) {
      Vec weight = load(sums + sums_at.weight_ih + w * 4 * P + j);
      for (int64_t i = 0; i < block.rows; ++i) weight += s.inputs[i * W + w] * load(s.gates + i * 4 * P + j);
      store(sums + sums_at.weight_ih + w * 4 * P + j, weight);
    }
  }
  for (int64_t i = 0; i < block.rows; ++i) {
    float* grad_inputs = p.grad_inputs + ((p.offsets[block.level] + block.node(i)) * S + block.lane(i)) * W;
    for (int64_t w = 0; w < W; ++w) {
      Vec total{};
      for (int64_t j = 0; j < 4 * P; j += kLanes)
        total += load(s.gates + i * 4 * P + j) * load(packed + at.weight_ih + w * 4 * P + j);
      grad_inputs[w] = sum(total);
    }
  }
}

// Calls `visit(block)` for the thread's share of a level's blocks: a cell's run cut evenly, in whole tiles.
template <class Visit>
void for_blocks(const Problem& p, int64_t level, const Share& share, Visit visit) {
  const int64_t first = p.group_offsets[level], last = p.group_offsets[level + 1], width = share.width;
  auto count = [&](const int64_t* group) { return ((group[2] - group[1]) * width + kBlock - 1) / kBlock; };
  int64_t total = 0;
  for (int64_t g = first; g < last; ++g) total += count(p.groups + 3 * g);
  const int64_t begin = share.by_example ? 0 : total * share.thread / share.threads;
  const int64_t end = share.by_example ? total : total * (share.thread + 1) / share.threads;
  int64_t index = 0;
  for (int64_t g = first; g < last && index < end; ++g) {
    const int64_t* group = p.groups + 3 * g;
    const int64_t blocks = count(group), low = group[1] * width, rows = (group[2] - group[1]) * width;
    const int64_t even = (rows + blocks - 1) / blocks, size = (even + kTileRows - 1) / kTileRows * kTileRows;
    for (int64_t b = 0; b < blocks; ++b, ++index) {
      if (index < begin || index >= end || b * size >= rows) continue;
      visit(Block{level, group[0], low + b * size, rows - b * size < size ? rows - b * size : size, share.first, width});
    }
  }
}

void pack_share(const Problem& p, const Layout& at, int64_t thread, int64_t threads) {
  for (int64_t cell = thread; cell < p.cells; cell += threads) pack_cell(p, at, cell);
}

void wait(const Problem& p, int64_t threads) {
  if (threads > 1) p.barrier();
}

void forward_thread(const Problem& p, int64_t thread, int64_t threads) {
  const Layout at(p);
  const Share share(p, thread, threads);
  const Scratch scratch = scratch_at(p, p.sums + thread * scratch_floats(p));
  pack_share(p, at, thread, threads);
  wait(p, threads);
  for (int64_t level = 0; level < p.depth; ++level) {
    for_blocks(p, level, share, [&](const Block& block) { forward_block(p, at, block, scratch); });
    if (!share.by_example) wait(p, threads);
  }
}

// Sums a cell's gradients over the threads and writes them in the parameters' own layout.
void write_cell(const Problem& p, const Sums& at, int64_t cell, int64_t threads, int64_t thread_stride) {
  const int64_t H = p.hidden, P = p.padded, W = p.slots;
  float* total = p.sums + cell * at.size;
  for (int64_t t = 1; t < threads; ++t) {
    const float* more = p.sums + t * thread_stride + cell * at.size;
    for (int64_t i = 0; i < at.size; ++i) total[i] += more[i];
  }
  const float* bias = total + at.bias;
  for (int64_t gate = 0; gate < 3; ++gate) {
    const int64_t input_column = gate == 2 ? 3 : gate;
    for (int64_t j = 0; j < H; ++j) {
      const int64_t out = cell * 3 * H + gate * H + j;
      std::memcpy(p.grad_weight_hh + out * H, total + at.weight + (gate * P + j) * P, sizeof(float) * H);
      p.grad_bias_hh[out] = bias[gate * P + j];
      p.grad_bias_ih[out] = bias[input_column * P + j];
      for (int64_t w = 0; w < W; ++w) p.grad_weight_ih[out * W + w] = total[at.weight_ih + w * 4 * P + input_column * P + j];
    }
  }
  for (int64_t w = 0; w < W; ++w) {
    std::memcpy(p.grad_weight_out + (cell * W + w) * H, total + at.weight_out + w * P, sizeof(float) * H);
    p.grad_bias_out[cell * W + w] = total[at.bias_out + w];
  }
}

// Gradient of the initial states: of the thread's examples, or of its share of the rows.
void sum_children(const Problem& p, const float* below, const Share& share) {
  const int64_t P = p.padded, S = p.per_row, rows = p.example ? p.batch : 1, pairs = rows * share.width;
  const int64_t begin = share.by_example ? 0 : pairs * share.thread / share.threads;
  const int64_t end = share.by_example ? pairs : pairs * (share.thread + 1) / share.threads;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = i / share.width, lane = share.first + i % share.width;
    float* out = p.grad_initial + (row * S + lane) * P;
    std::memset(out, 0, sizeof(float) * P);
    for (int64_t c = p.child_start[row]; c < p.child_start[row + 1]; ++c) {
      const float* from = below + (p.child_row[c] * S + lane) * P;
      for (int64_t j = 0; j < P; j += kLanes) store(out + j, load(out + j) + load(from + j));
    }
  }
}

void backward_thread(const Problem& p, int64_t thread, int64_t threads) {
  const Layout at(p);
  const Sums sums_at(p);
  const Share share(p, thread, threads);
  const int64_t thread_stride = p.cells * sums_at.size + scratch_floats(p);
  float* sums = p.sums + thread * thread_stride;
  const Scratch scratch = scratch_at(p, sums + p.cells * sums_at.size);
  std::memset(sums, 0, sizeof(float) * p.cells * sums_at.size);
  pack_share(p, at, thread, threads);
  wait(p, threads);
  for (int64_t level = p.depth - 1; level >= 0; --level) {
    float* level_grad = p.level_grads + (level % 2) * p.level_stride;
    const float* below = p.level_grads + ((level + 1) % 2) * p.level_stride;
    for_blocks(p, level, share, [&](const Block& block) {
      backward_block(p, at, sums_at, block, scratch, sums, below, level_grad);
    });
    if (!share.by_example) wait(p, threads);
  }
  sum_children(p, p.level_grads, share);
  wait(p, threads);
  for (int64_t cell = thread; cell < p.cells; cell += threads) write_cell(p, sums_at, cell, threads, thread_stride);
}

template <void (*Body)(const Problem&, int64_t, int64_t)>
void member(void* data) {
  const Problem& p = *static_cast<const Problem*>(data);
  Body(p, p.thread_num(), p.num_threads());
}

template <void (*Body)(const Problem&, int64_t, int64_t)>
void run(Problem* p) {
  if (p->parallel && p->threads > 1)
    p->parallel(member<Body>, p, static_cast<unsigned>(p->threads), 0);
  else
    Body(*p, 0, 1);
}

}  // namespace

extern "C" {

int64_t duchenne_lanes() { return kLanes; }
int64_t duchenne_problem_bytes() { return sizeof(Problem); }
int64_t duchenne_packed_floats(const Problem* p) { return p->cells * Layout(*p).size; }
int64_t duchenne_forward_floats(const Problem* p) { return p->threads * scratch_floats(*p); }
int64_t duchenne_backward_floats(const Problem* p) {
  return p->threads * (p->cells * Sums(*p).size + scratch_floats(*p));
}
void duchenne_forward(Problem* p) { run<forward_thread>(p); }
void duchenne_backward(Problem* p) { run<backward_thread>(p); }

}  // extern "C"
