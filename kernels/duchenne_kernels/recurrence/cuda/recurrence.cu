// The multi-order recurrence on a GPU: forward and backward over tiles of rows of one order, float32, C ABI.
//
// A block owns a tile of R rows. Its state stays in shared memory over all steps, the cell's weights are streamed, and a
// thread computes all three gates of one unit for a group of rows, so that gates never leave registers. Backward recomputes
// them and writes their gradients; weight gradients are summed per cell outside the time loop (launch.py). No atomics.
//
// Every phase is a loop over items that a team of threads shares, so the same source also runs on a host, with a team of
// one: that is how its arithmetic is tested without a GPU (compile with -DDUCHENNE_HOST -x c++).
//
// Letters: N rows, R rows of a tile, T steps, H hidden.

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
  int64_t rows, steps, hidden, tiles;
  const float *initial, *fed;                                                 // (B, H), (B, T)
  const int64_t* orders;                                                      // (M, T)
  const int32_t *tile_order, *tile_start, *tile_count, *example, *column;     // see tiled.py
  const float *weight_ih, *weight_hh, *weight_t, *bias_ih, *bias_hh, *weight_out, *bias_out;  // weight_t (T, H, 3H)
  float *logits, *states;                                                     // (N, T) by column, (T + 1, N, H)
  const float* grad_logits;                                                   // (N, T) by column
  float *grad_gates, *grad_hidden, *grad_fed;                                 // (T, N, 4H), (N, H) and (N, T) by column
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

// The label fed to a row at a step; 0 at the first step.
DEVICE float label(const DuchenneProblem& p, const Tile& tile, int64_t step, int row) {
  if (step == 0 || row >= tile.count) return 0.0f;
  return p.fed[p.example[tile.start + row] * p.steps + tile.order[step - 1]];
}

struct Gates {
  float reset[kGroupRows], update[kGroupRows], candidate[kGroupRows], part[kGroupRows];
};

// All gates of one unit for one group of rows; `state` is (R, H) in shared memory.
DEVICE void compute_gates(const DuchenneProblem& p, const Tile& tile, int64_t step, int64_t cell, const float* state,
                          int unit, int group, Gates& out) {
  const int64_t H = p.hidden;
  const float* weight = p.weight_t + cell * H * 3 * H + unit;
  const float *bih = p.bias_ih + cell * 3 * H + unit, *bhh = p.bias_hh + cell * 3 * H + unit;
  const float* wih = p.weight_ih + cell * 3 * H + unit;
  const float* rows = state + group * kGroupRows * H;
#pragma unroll
  for (int i = 0; i < kGroupRows; ++i) {
    const float x = label(p, tile, step, group * kGroupRows + i);
    out.reset[i] = bih[0] + bhh[0] + x * wih[0];
    out.update[i] = bih[H] + bhh[H] + x * wih[H];
    out.candidate[i] = bih[2 * H] + x * wih[2 * H];
    out.part[i] = bhh[2 * H];
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

// shared: state (R, H), next (R, H), partial (R, kPartials)
DEVICE void forward_tile(const DuchenneProblem& p, int64_t index, const Team& team, float* shared) {
  const Tile tile(p, index);
  if (tile.count == 0) return;
  const int64_t H = p.hidden, T = p.steps;
  float *state = shared, *next = shared + kTileRows * H, *partial = shared + 2 * kTileRows * H;
  load_rows(p, tile, team, p.initial, p.example, state);
  team.wait();
  for (int64_t i = team.thread; i < tile.count * H; i += team.threads) p.states[tile.start * H + i] = state[i];
  for (int64_t step = 0; step < T; ++step) {
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
    team.wait();
    for (int i = team.thread; i < kTileRows * kPartials; i += team.threads) {
      const int row = i / kPartials;
      float total = 0.0f;
      for (int64_t unit = i % kPartials; unit < H; unit += kPartials) total += next[row * H + unit] * p.weight_out[cell * H + unit];
      partial[i] = total;
    }
    team.wait();
    for (int row = team.thread; row < tile.count; row += team.threads) {
      float total = p.bias_out[cell];
      for (int i = 0; i < kPartials; ++i) total += partial[row * kPartials + i];
      p.logits[p.column[tile.start + row] * T + cell] = total;
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
  const int64_t H = p.hidden, T = p.steps;
  float *state = shared, *grad = state + kTileRows * H, *next = grad + kTileRows * H, *gates = next + kTileRows * H;
  float* partial = gates + kTileRows * 4 * H;
  for (int64_t i = team.thread; i < kTileRows * H; i += team.threads) grad[i] = 0.0f;
  for (int64_t step = T - 1; step >= 0; --step) {
    const int64_t cell = tile.order[step];
    load_rows(p, tile, team, p.states + step * p.rows * H, nullptr, state);
    team.wait();
    float* kept = p.grad_gates + (step * p.rows + tile.start) * 4 * H;
    for (int64_t item = team.thread; item < H * kGroups; item += team.threads) {
      const int unit = static_cast<int>(item % H), group = static_cast<int>(item / H);
      Gates found;
      compute_gates(p, tile, step, cell, state, unit, group, found);
      const float out = p.weight_out[cell * H + unit];
#pragma unroll
      for (int i = 0; i < kGroupRows; ++i) {
        const int row = group * kGroupRows + i;
        const bool valid = row < tile.count;
        const float incoming = valid ? p.grad_logits[p.column[tile.start + row] * T + cell] : 0.0f;
        const float after = grad[row * H + unit] + incoming * out;
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
    const float* wih = p.weight_ih + cell * 3 * H;
    for (int i = team.thread; i < kTileRows * kPartials; i += team.threads) {
      const float* row = gates + i / kPartials * 4 * H;
      float total = 0.0f;
      for (int64_t unit = i % kPartials; unit < H; unit += kPartials)
        total += row[unit] * wih[unit] + row[H + unit] * wih[H + unit] + row[3 * H + unit] * wih[2 * H + unit];
      partial[i] = total;
    }
    team.wait();
    for (int row = team.thread; step > 0 && row < tile.count; row += team.threads) {
      float total = 0.0f;
      for (int i = 0; i < kPartials; ++i) total += partial[row * kPartials + i];
      p.grad_fed[p.column[tile.start + row] * T + tile.order[step - 1]] = total;
    }
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
