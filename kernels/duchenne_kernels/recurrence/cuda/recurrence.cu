// The multi-order recurrence on a GPU: forward and backward over tiles of rows of one order, float32, C ABI.
//
// A block owns a tile of R rows. Its state stays in shared memory over all steps, the cell's weights are streamed, and a
// thread computes all three gates of one unit for a group of rows, so that gates never leave registers. Backward recomputes
// them and writes their gradients; weight gradients are summed per cell outside the time loop (launch.py). No atomics.
//
// Every phase is a loop over items that a team of threads shares, so the same source also runs on a host, with a team of
// one: that is how its arithmetic is tested without a GPU (compile with -DDUCHENNE_HOST -x c++).
//
// Letters: N rows, R rows of a tile, C cells (= steps), T tasks, W label slots of a cell, H hidden.

#include <cstdint>

#ifdef DUCHENNE_HOST
#include <cmath>
#include <vector>
#define DEVICE inline
#else
#include <cuda_runtime.h>
#define DEVICE __device__ __forceinline__
#endif

namespace {

constexpr int kTileRows = 16, kGroupRows = 8, kGroups = kTileRows / kGroupRows, kPartials = 8, kThreads = 128;

struct Team {
  int thread, threads;
  DEVICE void wait() const {
#ifndef DUCHENNE_HOST
    __syncthreads();
#endif
  }
};

}  // namespace

extern "C" {

// Everything that one call needs; the field order is repeated in library.py.
struct DuchenneProblem {
  int64_t rows, steps, tasks, slots_each, hidden, tiles;
  const float *initial, *fed;                                                 // (B, H), (B, T)
  const int64_t *orders, *slots;                                              // (M, C), (C, W) with -1 as padding
  const int32_t *tile_order, *tile_start, *tile_count, *example, *column;     // see tiled.py
  const float *weight_ih, *weight_hh, *weight_t, *bias_ih, *bias_hh, *weight_out, *bias_out;  // weight_t (C, H, 3H)
  float *logits, *states;                                                     // (N, T) by column, (C + 1, N, H)
  const float* grad_logits;                                                   // (N, T) by column
  float *grad_gates, *grad_hidden, *grad_fed;                                 // (C, N, 4H), (N, H) and (N, T) by column
};

}  // extern "C"

namespace {

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// What a block knows about its tile.
struct Tile {
  int count;
  int64_t start;
  const int64_t* order;
  DEVICE Tile(const DuchenneProblem& p, int64_t tile)
      : count(p.tile_count[tile]), start(p.tile_start[tile]), order(p.orders + p.tile_order[tile] * p.steps) {}
};

// The task behind a slot of a step's cell, or -1.
DEVICE int64_t task_of(const DuchenneProblem& p, const Tile& tile, int64_t step, int64_t slot) {
  return p.slots[tile.order[step] * p.slots_each + slot];
}

// The label that a slot of the step before feeds to a row; 0 at the first step and for padding.
DEVICE float label(const DuchenneProblem& p, const Tile& tile, int64_t step, int64_t slot, int row) {
  if (step == 0 || row >= tile.count) return 0.0f;
  const int64_t task = task_of(p, tile, step - 1, slot);
  return task < 0 ? 0.0f : p.fed[p.example[tile.start + row] * p.tasks + task];
}

struct Gates {
  float reset[kGroupRows], update[kGroupRows], candidate[kGroupRows], part[kGroupRows];
};

// All gates of one unit for one group of rows; `state` is (R, H) in shared memory.
DEVICE void compute_gates(const DuchenneProblem& p, const Tile& tile, int64_t step, int64_t cell, const float* state,
                          int unit, int group, Gates& out) {
  const int64_t H = p.hidden, W = p.slots_each;
  const float* weight = p.weight_t + cell * H * 3 * H + unit;
  const float *bih = p.bias_ih + cell * 3 * H + unit, *bhh = p.bias_hh + cell * 3 * H + unit;
  const float* wih = p.weight_ih + (cell * 3 * H + unit) * W;
  const float* rows = state + group * kGroupRows * H;
#pragma unroll
  for (int i = 0; i < kGroupRows; ++i) {
    out.reset[i] = bih[0] + bhh[0];
    out.update[i] = bih[H] + bhh[H];
    out.candidate[i] = bih[2 * H];
    out.part[i] = bhh[2 * H];
  }
  for (int64_t slot = 0; slot < W; ++slot) {
    const float to_reset = wih[slot], to_update = wih[H * W + slot], to_candidate = wih[2 * H * W + slot];
#pragma unroll
    for (int i = 0; i < kGroupRows; ++i) {
      const float x = label(p, tile, step, slot, group * kGroupRows + i);
      out.reset[i] += x * to_reset;
      out.update[i] += x * to_update;
      out.candidate[i] += x * to_candidate;
    }
  }
#pragma unroll 4
  for (int64_t k = 0; k < H; ++k) {
    const float to_reset = weight[k * 3 * H], to_update = weight[k * 3 * H + H], to_part = weight[k * 3 * H + 2 * H];
#pragma unroll
    for (int i = 0; i < kGroupRows; ++i) {
      const float h = rows[i * H + k];
      out.reset[i] += h * to_reset;
      out.update[i] += h * to_update;
      out.part[i] += h * to_part;
    }
  }
#pragma unroll
  for (int i = 0; i < kGroupRows; ++i) {
    out.reset[i] = sigmoid(out.reset[i]);
    out.update[i] = sigmoid(out.update[i]);
    out.candidate[i] = tanhf(out.candidate[i] + out.reset[i] * out.part[i]);
  }
}

// Loads rows of an (N, H) matrix into shared memory, 0 beyond the tile's count. `index` maps rows, or is null.
DEVICE void load_rows(const DuchenneProblem& p, const Tile& tile, const Team& team, const float* from,
                      const int32_t* index, float* to) {
  const int64_t H = p.hidden;
  for (int64_t i = team.thread; i < kTileRows * H; i += team.threads) {
    const int64_t row = i / H, unit = i % H;
    const int64_t source = row < tile.count ? (index ? index[tile.start + row] : tile.start + row) : 0;
    to[i] = row < tile.count ? from[source * H + unit] : 0.0f;
  }
}

// Sums each row's `kPartials` partial sums and hands (row, total) to `write`.
template <class Write>
DEVICE void add_partials(const Tile& tile, const Team& team, const float* partial, Write write) {
  for (int row = team.thread; row < tile.count; row += team.threads) {
    float total = 0.0f;
    for (int i = 0; i < kPartials; ++i) total += partial[row * kPartials + i];
    write(row, total);
  }
}

// shared: state (R, H), next (R, H), partial (R, kPartials)
DEVICE void forward_tile(const DuchenneProblem& p, int64_t index, const Team& team, float* shared) {
  const Tile tile(p, index);
  if (tile.count == 0) return;
  const int64_t H = p.hidden, W = p.slots_each;
  float *state = shared, *next = shared + kTileRows * H, *partial = shared + 2 * kTileRows * H;
  load_rows(p, tile, team, p.initial, p.example, state);
  team.wait();
  for (int64_t i = team.thread; i < tile.count * H; i += team.threads) p.states[tile.start * H + i] = state[i];
  for (int64_t step = 0; step < p.steps; ++step) {
    const int64_t cell = tile.order[step];
    float* kept = p.states + ((step + 1) * p.rows + tile.start) * H;
    for (int64_t item = team.thread; item < H * kGroups; item += team.threads) {
      const int unit = static_cast<int>(item % H), group = static_cast<int>(item / H);
      Gates gates;
      compute_gates(p, tile, step, cell, state, unit, group, gates);
#pragma unroll
      for (int i = 0; i < kGroupRows; ++i) {
        const int row = group * kGroupRows + i;
        const float h = gates.candidate[i] + gates.update[i] * (state[row * H + unit] - gates.candidate[i]);
        next[row * H + unit] = h;
        if (row < tile.count) kept[row * H + unit] = h;
      }
    }
    for (int64_t slot = 0; slot < W; ++slot) {
      const int64_t task = task_of(p, tile, step, slot);
      const float* out = p.weight_out + (cell * W + slot) * H;
      team.wait();
      for (int i = team.thread; i < kTileRows * kPartials; i += team.threads) {
        const float* row = next + i / kPartials * H;
        float total = 0.0f;
        for (int64_t unit = i % kPartials; unit < H; unit += kPartials) total += row[unit] * out[unit];
        partial[i] = total;
      }
      team.wait();
      if (task < 0) continue;  // the same for all threads
      add_partials(tile, team, partial, [&](int row, float total) {
        p.logits[p.column[tile.start + row] * p.tasks + task] = total + p.bias_out[cell * W + slot];
      });
    }
    float* swap = state;
    state = next;
    next = swap;
  }
}

// shared: state (R, H), grad (R, H), next (R, H), gates (R, 4H), partial (R, kPartials)
DEVICE void backward_tile(const DuchenneProblem& p, int64_t index, const Team& team, float* shared) {
  const Tile tile(p, index);
  if (tile.count == 0) return;
  const int64_t H = p.hidden, W = p.slots_each;
  float *state = shared, *grad = state + kTileRows * H, *next = grad + kTileRows * H, *gates = next + kTileRows * H;
  float* partial = gates + kTileRows * 4 * H;
  for (int64_t i = team.thread; i < kTileRows * H; i += team.threads) grad[i] = 0.0f;
  for (int64_t step = p.steps - 1; step >= 0; --step) {
    const int64_t cell = tile.order[step];
    load_rows(p, tile, team, p.states + step * p.rows * H, nullptr, state);
    team.wait();
    float* kept = p.grad_gates + (step * p.rows + tile.start) * 4 * H;
    for (int64_t item = team.thread; item < H * kGroups; item += team.threads) {
      const int unit = static_cast<int>(item % H), group = static_cast<int>(item / H);
      Gates found;
      compute_gates(p, tile, step, cell, state, unit, group, found);
#pragma unroll
      for (int i = 0; i < kGroupRows; ++i) {
        const int row = group * kGroupRows + i;
        const bool valid = row < tile.count;
        float after = grad[row * H + unit];
        for (int64_t slot = 0; valid && slot < W; ++slot) {
          const int64_t task = task_of(p, tile, step, slot);
          if (task < 0) continue;
          after += p.grad_logits[p.column[tile.start + row] * p.tasks + task] * p.weight_out[(cell * W + slot) * H + unit];
        }
        const float reset = found.reset[i], update = found.update[i], candidate = found.candidate[i], part = found.part[i];
        const float grad_candidate = after * (1.0f - update) * (1.0f - candidate * candidate);
        const float values[4] = {grad_candidate * part * reset * (1.0f - reset),
                                 after * (state[row * H + unit] - candidate) * update * (1.0f - update),
                                 grad_candidate * reset, grad_candidate};
        next[row * H + unit] = after * update;
#pragma unroll
        for (int column = 0; column < 4; ++column) {
          gates[row * 4 * H + column * H + unit] = values[column];
          if (valid) kept[row * 4 * H + column * H + unit] = values[column];
        }
      }
    }
    team.wait();
    const float* weight = p.weight_hh + cell * 3 * H * H;
    for (int64_t item = team.thread; item < H * kGroups; item += team.threads) {
      const int64_t unit = item % H, first = item / H * kGroupRows;
      float total[kGroupRows];
#pragma unroll
      for (int i = 0; i < kGroupRows; ++i) total[i] = next[(first + i) * H + unit];
#pragma unroll 4
      for (int64_t j = 0; j < 3 * H; ++j) {
        const float factor = weight[j * H + unit];
#pragma unroll
        for (int i = 0; i < kGroupRows; ++i) total[i] += gates[(first + i) * 4 * H + j] * factor;
      }
#pragma unroll
      for (int i = 0; i < kGroupRows; ++i) grad[(first + i) * H + unit] = total[i];
    }
    for (int64_t slot = 0; step > 0 && slot < W; ++slot) {
      const int64_t task = task_of(p, tile, step - 1, slot);
      const float* wih = p.weight_ih + cell * 3 * H * W + slot;
      if (slot > 0) team.wait();
      for (int i = team.thread; i < kTileRows * kPartials; i += team.threads) {
        const float* row = gates + i / kPartials * 4 * H;
        float total = 0.0f;
        for (int64_t unit = i % kPartials; unit < H; unit += kPartials)
          total += row[unit] * wih[unit * W] + row[H + unit] * wih[(H + unit) * W] + row[3 * H + unit] * wih[(2 * H + unit) * W];
        partial[i] = total;
      }
      team.wait();
      if (task >= 0)  // the same for all threads
        add_partials(tile, team, partial, [&](int row, float total) {
          p.grad_fed[p.column[tile.start + row] * p.tasks + task] = total;
        });
    }
    team.wait();
  }
  for (int64_t i = team.thread; i < tile.count * H; i += team.threads)
    p.grad_hidden[p.column[tile.start + i / H] * H + i % H] = grad[i];
}

int64_t forward_floats(const DuchenneProblem& p) { return kTileRows * (2 * p.hidden + kPartials); }
int64_t backward_floats(const DuchenneProblem& p) { return kTileRows * (7 * p.hidden + kPartials); }

#ifndef DUCHENNE_HOST
__global__ void __launch_bounds__(kThreads) forward_kernel(DuchenneProblem p) {
  extern __shared__ float shared[];
  forward_tile(p, blockIdx.x, Team{static_cast<int>(threadIdx.x), kThreads}, shared);
}
__global__ void __launch_bounds__(kThreads) backward_kernel(DuchenneProblem p) {
  extern __shared__ float shared[];
  backward_tile(p, blockIdx.x, Team{static_cast<int>(threadIdx.x), kThreads}, shared);
}

int launch(void (*kernel)(DuchenneProblem), const DuchenneProblem& p, int64_t floats, void* stream) {
  const int bytes = static_cast<int>(floats * sizeof(float));
  const cudaError_t allowed =
      cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (allowed != cudaSuccess) return allowed;
  kernel<<<static_cast<unsigned>(p.tiles), kThreads, bytes, static_cast<cudaStream_t>(stream)>>>(p);
  return cudaGetLastError();
}
#endif

}  // namespace

extern "C" {

int64_t duchenne_cuda_problem_bytes() { return sizeof(DuchenneProblem); }
int64_t duchenne_cuda_tile_rows() { return kTileRows; }

#ifdef DUCHENNE_HOST
int duchenne_cuda_forward(const DuchenneProblem* p, void*) {
  std::vector<float> shared(forward_floats(*p));
  for (int64_t tile = 0; tile < p->tiles; ++tile) forward_tile(*p, tile, Team{0, 1}, shared.data());
  return 0;
}
int duchenne_cuda_backward(const DuchenneProblem* p, void*) {
  std::vector<float> shared(backward_floats(*p));
  for (int64_t tile = 0; tile < p->tiles; ++tile) backward_tile(*p, tile, Team{0, 1}, shared.data());
  return 0;
}
const char* duchenne_cuda_error(int) { return "none on a host"; }
#else
int duchenne_cuda_forward(const DuchenneProblem* p, void* stream) {
  return launch(forward_kernel, *p, forward_floats(*p), stream);
}
int duchenne_cuda_backward(const DuchenneProblem* p, void* stream) {
  return launch(backward_kernel, *p, backward_floats(*p), stream);
}
const char* duchenne_cuda_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
#endif

}  // extern "C"
