// Products on emulated tiles, for tests to call.

#include <memory>

#include "tiles_emulated.h"

#include "tile_products.h"

extern "C" void pack(const ingot::Matrix* to, const void* from, const float* scale, long rows) {
    ingot::pack(*to, from, scale, nullptr, rows, 0, 1);
}

extern "C" long panels_bytes(const ingot::Matrix* matrix) { return matrix->count() * matrix->panel_bytes(); }

// y [rows, outs] = x [rows, inputs] times a packed matrix, its panels from `first` to `last` only.
extern "C" void product(const ingot::Matrix* w, const float* x, long rows, long first, long last, long unit,
                        float* y) {
    ingot::with_products(w->kind, [&](auto kind) {
        using K = decltype(kind);
        const long block = ingot::block_rows<K>(rows), words = ingot::all_words<K>(rows, w->inputs);
        const auto at = std::make_unique<uint32_t[]>(words);
        std::vector<float> scale(rows);
        std::vector<int32_t> centres(2 * rows);
        const ingot::Rows put_there{at.get(), scale.data(), centres.data(),
                                    ingot::row_words<K>(w->inputs) / K::PLANES, block};
        for (long row = 0; row < rows; row += block)
            ingot::put(kind, [&](long r) { return x + (row + r) * w->inputs; }, w->inputs, put_there, row,
                       std::min(block, rows - row));
        const auto held = ingot::registers(kind, put_there, rows);
        ingot::multiply(kind, *w, put_there, rows, first, last, unit,
                        [&](long row, long panel, long count, const float* values) {
                            const long out = panel * ingot::PANEL;
                            std::memcpy(y + row * w->outs + out, values,
                                        std::min(count * ingot::PANEL, w->outs - out) * sizeof(float));
                        });
    });
}

// Tiles of 16 rows: c (+)= a b, of bf16 pairs, or of signed and unsigned bytes.
extern "C" void tile_product(const void* a, const void* b, void* c, long kind) {
    const ingot::Registers registers(16, false);
    _tile_loadd(0, c, 64);
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    if (kind == ingot::BF16) _tile_dpbf16ps(0, 4, 6);
    else _tile_dpbsud(0, 4, 6);
    _tile_stored(0, c, 64);
}

// What a processor refuses.
extern "C" void refused(long which) {
    alignas(64) static char memory[1024];
    if (which == 0) _tile_zero(0);
    const ingot::Registers registers(which == 1 ? 17 : 4, false);
    if (which == 2) _tile_dpbf16ps(0, 4, 5);  // 16 groups deep against 4
    if (which == 3) _tile_dpbf16ps(6, 4, 7);  // 16 rows of sums against 4
    if (which == 4) _tile_dpbsud(0, 0, 6);
    if (which == 5) _tile_loadd(8, memory, 64);
}
