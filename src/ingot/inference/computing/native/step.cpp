// One pass of a decoder: embedding, blocks, norm and head over the new tokens of all requests.
//
//     norm | query key value | turn, store | attend | output | norm | gate up | down      times layers
//          '-----------------'-------------'--------'--------'      '---------'------'
//                       threads wait for one another here
//
// The residual stream and all that is between products is fp32; the factors of products are of the type that
// the weights have (int8 weights meet rows of 16 bits). Every thread begins with the same panels of a matrix
// in each pass, and reads its part of the weights in one stream; where it has to wait, the next ones come.

#include <memory>

#include "model.h"
#include "threads.h"
#include "tile_products.h"

namespace ingot {
namespace {

constexpr long FEW = 8;       // rows up to which every thread prepares them all for itself
constexpr long STEP = 4;      // panels that a thread takes at a time
constexpr long SOON = 1 << 18;  // bytes of the next weights that come while a thread waits
constexpr long QUERIES = 48;  // query heads that one thread attends with at a time

using Buffer = std::unique_ptr<float[]>;
Buffer buffer(long count) { return Buffer(new float[count]); }

struct Task {
    long segment, first, last;  // rows of the pass
};

// Rows in the form that a matrix meets, and the memory they are in.
class Prepared {
public:
    void reserve(long kind, long rows, long inputs) {
        with_products(kind, [&](auto k) {
            using K = decltype(k);
            words.resize(all_words<K>(rows, inputs) + LANES);
            groups = row_words<K>(inputs) / K::PLANES;
            block = block_rows<K>(rows);
        });
        scale.resize(rows);
        centres.resize(2 * rows);
    }
    Rows rows() {
        void* at = words.data();
        size_t space = words.size() * 4;
        std::align(64, 0, at, space);  // a tile's rows are lines of the cache
        return {static_cast<uint32_t*>(at), scale.data(), centres.data(), groups, block};
    }

private:
    std::vector<uint32_t> words;
    std::vector<float> scale;
    std::vector<int32_t> centres;
    long groups = 0, block = 1;
};

struct Own {  // of one thread
    Prepared rows;
    long products = 0;  // begun
};

class Work {  // one pass
public:
    Work(const Model& model, const Pass& pass, int threads)
        : model(model), pass(pass), rows(pass.t), panels(4 * model.layers + 1, threads) {
        const long t = pass.t, all_heads = model.heads + 2 * model.key_heads;
        x = buffer(t * model.width);
        made = buffer(t * model.width);
        heads = buffer(t * all_heads * model.head_width);
        mixed = buffer(t * model.heads * model.head_width);
        inner = buffer(t * model.feed_forward);
        last_x = buffer(pass.w * model.width);
        last_mixed = buffer(pass.w * model.heads * model.head_width);
        if (model.parallel) last_made = buffer(pass.w * model.width);
        own.resize(threads);
        taken = std::make_unique<std::atomic<long>[]>(model.layers);
        for (long layer = 0; layer < model.layers; ++layer) taken[layer] = 0;
        const long shared = model.heads / model.key_heads, step = std::max(1L, QUERIES / shared);
        for (long i = 0; i < pass.n; ++i)
            for (long row = pass.starts[i]; row < pass.starts[i + 1]; row += step)
                tasks.push_back({i, row, std::min<long>(row + step, pass.starts[i + 1])});
    }

    void run(const Thread& thread) {
        const auto [first, last] = thread.share(rows);
        for (long row = first; row < last; ++row) embed(row);
        thread.barrier.wait();
        for (long i = 0; i < model.layers; ++i) {
            const Layer& layer = model.layer[i];
            if (model.parallel) feed_forward(thread, layer, made.get(), false);
            attention(thread, layer, i);
            if (i + 1 == model.layers) keep_wanted(thread);
            if (rows == 0) return;
            output(thread, layer);
            if (!model.parallel) feed_forward(thread, layer, x.get(), true);
            else add(thread, made.get());
        }
        head(thread);
    }

private:
    void embed(long row) {
        const long d = model.width, token = pass.tokens[row];
        float* to = x.get() + row * d;
        for (long i = 0; i < d; ++i) {
            const long at = token * d + i;
            float value;
            if (model.embedding_kind == FLOAT) value = static_cast<const float*>(model.embedding)[at];
            else if (model.embedding_kind == BF16)
                value = widened(static_cast<const bf16*>(model.embedding)[at]);
            else value = static_cast<const int8_t*>(model.embedding)[at] * model.embedding_rows[token];
            to[i] = value * model.embedding_scale;
            if (model.positions) to[i] += model.positions[pass.positions[row] * d + i];
        }
    }

    // Rows [rows, inputs], normed where there is a norm, in the form that `matrix` meets.
    Rows prepare(const Thread& thread, const Norm* norm, const float* from, const Matrix& matrix) {
        const bool few = rows <= FEW;
        Prepared& to = few ? own[thread.number].rows : shared;
        if (few || thread.number == 0) to.reserve(matrix.kind, rows, matrix.inputs);
        if (!few) thread.barrier.wait();
        const long inputs = matrix.inputs;
        with_products(matrix.kind, [&](auto kind) {
            using K = decltype(kind);
            const long block = block_rows<K>(rows);
            std::vector<float> normed(norm && norm->kind ? block * inputs : 0);
            const auto [first, last] = few ? std::pair{0L, rows} : thread.share(rows, block);
            for (long row = first; row < last; row += block) {
                const float* values = from + row * inputs;
                const long here = std::min(block, last - row);
                if (!normed.empty()) {
                    for (long r = 0; r < here; ++r)
                        (*norm)(values + r * inputs, normed.data() + r * inputs, inputs);
                    values = normed.data();
                }
                put(kind, [&](long r) { return values + r * inputs; }, inputs, to.rows(), row, here);
            }
        });
        if (!few) thread.barrier.wait();
        return to.rows();
    }

    // Waits for all threads, while the weights that this one meets next come from memory.
    void meet(const Thread& thread, const Matrix& next, long unit = 1) {
        const auto [first, last] = thread.share(next.count(), unit);
        const long bytes = next.panel_bytes();
        thread.barrier.wait(next.panels + first * bytes, std::min(SOON, (last - first) * bytes));
    }

    // All rows times a matrix; `take(row, output, count, values)`, bias added.
    template <class Take>
    void product(const Thread& thread, const Matrix& matrix, const Rows& from, long unit, Take take) {
        const long time = own[thread.number].products++;
        const auto biased = [&](long row, long panel, long count, float* values) {
            if (matrix.bias)
                for (long i = 0; i < count * PANEL; i += LANES)
                    store(values + i,
                          load<Floats>(values + i) + load<Floats>(matrix.bias + panel * PANEL + i));
            take(row, panel * PANEL, count * PANEL, values);
        };
        with_products(matrix.kind, [&](auto kind) {
            const auto held = registers(kind, from, rows);
            panels.each(thread, time, matrix.count(), unit, STEP, [&](long first, long last) {
                multiply(kind, matrix, from, rows, first, last, unit, biased);
            });
        });
    }

    // Puts a product's outputs in place, or adds them to what is there.
    auto into(float* to, long outs, bool add) {
        return [=](long row, long output, long count, const float* values) {
            float* at = to + row * outs + output;
            count = std::min(count, outs - output);
            if (!add) std::memcpy(at, values, count * sizeof(float));
            else
                for (long i = 0; i < count; ++i) at[i] += values[i];
        };
    }

    void attention(const Thread& thread, const Layer& layer, long number) {
        const long e = model.head_width, all_heads = model.heads + 2 * model.key_heads;
        const Rows from = prepare(thread, &layer.attention_norm, x.get(), layer.heads);
        product(thread, layer.heads, from, 1, into(heads.get(), all_heads * e, false));
        meet(thread, layer.output);
        with_kind(model.cache_kind, [&](auto kind) {
            const auto [first, last] = thread.share(rows);
            for (long row = first; row < last; ++row) turn_and_store(kind, layer, number, row);
            meet(thread, layer.output);
            attend(kind, layer, number);
        });
        meet(thread, layer.output);
    }

    template <class K>
    void turn_and_store(K, const Layer& layer, long number, long row) {
        const long e = model.head_width, h = model.heads, k = model.key_heads;
        float* query = heads.get() + row * (h + 2 * k) * e;
        float *key = query + h * e, *value = key + k * e;
        const auto norm = [&](const Norm& by, float* at, long count) {
            if (!by.kind) return;
            if (model.joint_norm) by(at, at, count * e);
            else
                for (long i = 0; i < count; ++i) by(at + i * e, at + i * e, e);
        };
        norm(layer.query_norm, query, h);
        norm(layer.key_norm, key, k);
        if (layer.cosine)
            for (long i = 0; i < h + k; ++i) rotate(layer, query + i * e, pass.positions[row]);
        for (long i = 0; i < h * e; ++i) query[i] *= model.score_scale;
        const long segment = std::upper_bound(pass.starts, pass.starts + pass.n + 1, row) - pass.starts - 1;
        const long place = pass.stored[segment] + row - pass.starts[segment];
        const long page = pass.tables[segment * pass.m + place / PAGE];
        for (long i = 0; i < k; ++i) {
            const long at = ((page * k + i) * PAGE + place % PAGE) * e;
            keep(K{}, key + i * e, pass.keys[number], at);
            keep(K{}, value + i * e, pass.values[number], at);
        }
    }

    void rotate(const Layer& layer, float* head, long position) const {
        const long half = model.turned / 2;
        const float* cosine = layer.cosine + position * model.turned;
        const float* sine = layer.sine + position * model.turned;
        for (long i = 0; i < half; ++i) {
            const float a = head[i], b = head[i + half];
            head[i] = a * cosine[i] - b * sine[i];
            head[i + half] = b * cosine[i + half] + a * sine[i + half];
        }
    }

    void keep(FloatKind, const float* from, char* pool, long at) const {
        std::memcpy(pool + at * 4, from, model.head_width * 4);
    }
    void keep(Bf16Kind, const float* from, char* pool, long at) const {
        auto* to = reinterpret_cast<bf16*>(pool) + at;
        long i = 0;
        for (; i + LANES <= model.head_width; i += LANES) store(to + i, rounded(load<Floats>(from + i)));
        float rest[LANES] = {};
        std::memcpy(rest, from + i, (model.head_width - i) * sizeof(float));
        const Halves made = rounded(load<Floats>(rest));
        std::memcpy(to + i, &made, (model.head_width - i) * sizeof(bf16));
    }
    void keep(Int8Kind, const float*, char*, long) const {}  // pages are of floats

    template <class K>
    void attend(K, const Layer& layer, long number) {
        if constexpr (K::PLANES == 1) {
            const long e = model.head_width, k = model.key_heads, shared = model.heads / k;
            const long page_bytes = k * PAGE * e * 4 / K::NUMBERS;
            Attending<K> work{{shared, e},
                              {model.score_cap, layer.slopes, layer.sinks, layer.window}};
            const long count = static_cast<long>(tasks.size()) * k;
            for (long i; (i = taken[number].fetch_add(1, std::memory_order_relaxed)) < count;) {
                const Task& task = tasks[tasks.size() - 1 - i / k];  // the last have most to do
                const long head = i % k, step = (model.heads + 2 * k) * e, skip = head * page_bytes / k;
                work.run({heads.get() + task.first * step + head * shared * e, step, task.first, task.last,
                          pass.stored[task.segment] + task.first - pass.starts[task.segment], head * shared},
                         pass.tables + task.segment * pass.m, pass.keys[number] + skip,
                         pass.values[number] + skip, page_bytes,
                         mixed.get() + (task.first * model.heads + head * shared) * e, model.heads * e);
            }
        }
    }

    // After the last attention, rows whose logits nobody wants are let go.
    void keep_wanted(const Thread& thread) {
        const long d = model.width, o = model.heads * model.head_width;
        const auto [first, last] = thread.share(pass.w);
        for (long i = first; i < last; ++i) {
            const long row = pass.wanted[i];
            std::memcpy(last_x.get() + i * d, x.get() + row * d, d * sizeof(float));
            std::memcpy(last_mixed.get() + i * o, mixed.get() + row * o, o * sizeof(float));
            if (model.parallel)
                std::memcpy(last_made.get() + i * d, made.get() + row * d, d * sizeof(float));
        }
        thread.barrier.wait();
        if (thread.number == 0) {
            rows = pass.w;
            x.swap(last_x);
            mixed.swap(last_mixed);
            if (model.parallel) made.swap(last_made);
        }
        thread.barrier.wait();
    }

    void output(const Thread& thread, const Layer& layer) {
        const Rows from = prepare(thread, nullptr, mixed.get(), layer.output);
        finish(thread, layer.output, from, layer.attention_output_norm, x.get(), true, layer.up);
    }

    void feed_forward(const Thread& thread, const Layer& layer, float* to, bool add) {
        const long f = model.feed_forward, activation = model.activation;
        const Rows from = prepare(thread, &layer.feed_forward_norm, x.get(), layer.up);
        product(thread, layer.up, from, model.gated ? 2 : 1,
                [&](long row, long output, long count, const float* values) {
                    float made[PANEL];
                    for (long i = 0; i < count; i += model.gated ? 2 * PANEL : PANEL) {
                        for (long j = 0; j < PANEL; j += LANES) {
                            Floats y = activated(load<Floats>(values + i + j), activation);
                            if (model.gated) y *= load<Floats>(values + i + j + PANEL);
                            store(made + j, y);
                        }
                        const long at = model.gated ? (output + i) / 2 : output + i;
                        const long real = std::min(PANEL, f - at);
                        if (real > 0) std::memcpy(inner.get() + row * f + at, made, real * sizeof(float));
                    }
                });
        meet(thread, layer.down);
        const Rows through = prepare(thread, nullptr, inner.get(), layer.down);
        const bool last = &layer + 1 == model.layer + model.layers;
        const Matrix& next = model.parallel ? layer.heads : last ? model.head : (&layer)[1].heads;
        finish(thread, layer.down, through, layer.feed_forward_output_norm, to, add, next);
    }

    // A product that goes into the residual stream, by way of a norm where there is one; `next` follows.
    void finish(const Thread& thread, const Matrix& matrix, const Rows& from, const Norm& norm, float* to,
                bool add, const Matrix& next) {
        const long d = model.width;
        if (!norm.kind) {
            product(thread, matrix, from, 1, into(to, d, add));
        } else {
            product(thread, matrix, from, 1, into(made.get(), d, false));
            thread.barrier.wait();
            const auto [first, last] = thread.share(rows);
            for (long row = first; row < last; ++row) {
                norm(made.get() + row * d, made.get() + row * d, d);
                for (long i = row * d; i < (row + 1) * d; ++i) to[i] = made[i] + (add ? to[i] : 0);
            }
        }
        meet(thread, next);
    }

    void add(const Thread& thread, const float* from) {
        const auto [first, last] = thread.share(rows * model.width);
        for (long i = first; i < last; ++i) x[i] += from[i];
        thread.barrier.wait();
    }

    void head(const Thread& thread) {
        const Rows from = prepare(thread, &model.norm, x.get(), model.head);
        const long v = model.vocabulary;
        const float cap = model.logit_cap;
        product(thread, model.head, from, 1, [&](long row, long output, long count, float* values) {
            if (cap != 0)
                for (long i = 0; i < count; i += LANES)
                    store(values + i, all(cap) * tanh(load<Floats>(values + i) * all(1 / cap)));
            const long real = std::min(count, v - output);
            if (real > 0) std::memcpy(pass.logits + row * v + output, values, real * sizeof(float));
        });
    }

    const Model& model;
    const Pass& pass;
    long rows;
    Buffer x, made, heads, mixed, inner, last_x, last_mixed, last_made;
    std::vector<Own> own;
    Prepared shared;
    Shared panels;
    std::vector<Task> tasks;
    std::unique_ptr<std::atomic<long>[]> taken;
};

}  // namespace
}  // namespace ingot

extern "C" int step(const ingot::Model* model, const ingot::Pass* pass, int threads) {
    const int wrong = ingot::fault(*model, *pass);
    if (wrong || pass->t == 0) return wrong;
    ingot::Work work{*model, *pass, threads};
    ingot::together(threads, [&](const ingot::Thread& thread) { work.run(thread); });
    return 0;
}

extern "C" void pack(const ingot::Matrix* to, const void* from, const float* scale, const float* bias,
                     long rows, long first, long spread) {
    ingot::pack(*to, from, scale, bias, rows, first, spread);
}

// Bytes of the structures that Python lays out too.
extern "C" void structure_bytes(long* to) {
    to[0] = sizeof(ingot::Matrix), to[1] = sizeof(ingot::Norm), to[2] = sizeof(ingot::Layer);
    to[3] = sizeof(ingot::Model), to[4] = sizeof(ingot::Pass);
}

// Bytes of a matrix's panels.
extern "C" long panels_bytes(const ingot::Matrix* matrix) { return matrix->count() * matrix->panel_bytes(); }
