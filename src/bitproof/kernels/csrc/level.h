/* All that a level needs besides its look-ups; included by each, so that each is compiled for its
 * own instructions. Before it, a level defines:
 *   look_up_block(x, weight, count, table, planes, lanes, seven, sums): adds the products of
 *     `count` terms to sums[0..TILE); x is [count][TILE], of which only `lanes` pixels count;
 *     `seven`: all x are below 128
 *   copy_run(to, from, count, step): to[i] = from[i * step]; may write SLACK bytes more, not read
 *   remap_row(to, from, count, table): to[i] = table[from[i]]
 *   remap_short(to, from, count, tables, terms): to[t][i] = tables[t][from[i]], count up to 64
 *   turn(to, from, pixels, filters, step): to[f][p] += from[p * step + f], in rows of TILE; up to
 *     16 of each
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "requantize.h"
#include "runs.h"

typedef struct {
    int64_t place; /* in memory: of the first word at kernel position 0, or of the first output */
    int64_t lane;  /* in the tile: of the first pixel */
    int64_t count;
} Run;

/* One tile: where its pixels come from and where they go. */
typedef struct {
    int64_t first; /* pixel, over all images */
    int64_t pixels, lanes;
    int64_t source_runs, target_runs;
    Run source[TILE], target[TILE];
    int64_t offset[TILE];
} Tile;

static void describe_tile(const Convolution *job, int64_t first, Tile *tile) {
    const int64_t area = job->out_height * job->out_width, total = job->images * area;
    const int64_t image = job->channels * job->height * job->width;
    /* Rows of which nothing is skipped follow one another: an image is a single run. */
    const int whole = job->stride_y == 1 && job->stride_x == 1 && job->out_width == job->width;
    tile->first = first;
    tile->pixels = total - first < TILE ? total - first : TILE;
    tile->lanes = (tile->pixels + 63) / 64 * 64;
    tile->source_runs = tile->target_runs = 0;
    for (int64_t lane = 0; lane < tile->pixels;) {
        const int64_t pixel = (first + lane) % area, n = (first + lane) / area;
        const int64_t left = tile->pixels - lane;
        const int64_t count = area - pixel < left ? area - pixel : left;
        tile->target[tile->target_runs++] = (Run){n * job->filters * area + pixel, lane, count};
        for (int64_t done = 0; done < count;) {
            const int64_t y = (pixel + done) / job->out_width, x = (pixel + done) % job->out_width;
            int64_t length = whole ? count : job->out_width - x;
            if (length > count - done) length = count - done;
            const int64_t source = n * image + y * job->stride_y * job->width + x * job->stride_x;
            tile->source[tile->source_runs++] = (Run){source, lane + done, length};
            for (int64_t i = 0; i < length; i++)
                tile->offset[lane + done + i] = source + i * job->stride_x;
            done += length;
        }
        lane += count;
    }
}

/* A term of a group's sums: its kernel position, and its distance from a pixel's first word. */
typedef struct {
    int64_t y, x;
    const uint8_t *words;
} Term;

static Term find_term(const Convolution *job, int64_t group, int64_t k) {
    const int64_t area = job->kernel_height * job->kernel_width;
    const int64_t channel = group * (job->channels / job->groups) + k / area;
    const int64_t y = k % area / job->kernel_width, x = k % job->kernel_width;
    const int64_t row = channel * job->height + y * job->dilation_y;
    return (Term){y, x, job->words + row * job->width + x * job->dilation_x};
}

static inline void go_to_next_term(const Convolution *job, Term *term) {
    term->words += job->dilation_x;
    if (++term->x < job->kernel_width) return;
    term->x = 0;
    term->words += job->dilation_y * job->width - job->kernel_width * job->dilation_x;
    if (++term->y < job->kernel_height) return;
    term->y = 0;
    term->words += (job->height - job->kernel_height * job->dilation_y) * job->width;
}

/* One row of a block, pixel by pixel. */
static void gather(const uint8_t *words, const int64_t *offset, int64_t pixels, uint8_t *row) {
    for (int64_t p = 0; p < pixels; p++) row[p] = words[offset[p]];
}

/* The same for images of one pixel: their terms follow one another in memory. */
static void transpose(const uint8_t *words, const int64_t *offset, int64_t pixels, int64_t count,
                      uint8_t *x) {
    for (int64_t k = 0; k < count; k += 8) {
        const int64_t terms = count - k < 8 ? count - k : 8;
        for (int64_t p = 0; p < pixels; p++) {
            const uint8_t *from = words + offset[p] + k;
            uint8_t *to = x + k * TILE + p;
            if (terms == 8)
                for (int64_t i = 0; i < 8; i++) to[i * TILE] = from[i];
            else
                for (int64_t i = 0; i < terms; i++) to[i * TILE] = from[i];
        }
    }
}

static void fill_block(const Convolution *job, const Tile *tile, int64_t group, int64_t first,
                       int64_t count, uint8_t *x) {
    const int short_runs = tile->pixels < 4 * tile->source_runs;
    Term term = find_term(job, group, first);
    if (short_runs && job->height * job->width == 1) {
        transpose(term.words, tile->offset, tile->pixels, count, x);
        return;
    }
    for (int64_t k = 0; k < count; k++, x += TILE, go_to_next_term(job, &term)) {
        if (short_runs) {
            gather(term.words, tile->offset, tile->pixels, x);
            continue;
        }
        for (int64_t r = 0; r < tile->source_runs; r++) {
            const Run *run = &tile->source[r];
            copy_run(x + run->lane, term.words + run->place, run->count, job->stride_x);
        }
    }
}

/* Whether a word of the block has its top bit set. Lanes without a pixel hold words, too. */
static int below_128(const uint8_t *x, int64_t count) {
    uint8_t any[TILE];
    memset(any, 0, TILE);
    for (int64_t k = 0; k < count; k++)
        for (int i = 0; i < TILE; i++) any[i] |= x[k * TILE + i];
    uint8_t all = 0;
    for (int i = 0; i < TILE; i++) all |= any[i];
    return all < 128;
}

static void add_words(const uint8_t *x, int64_t count, int is_signed, uint32_t *words) {
    for (int64_t k = 0; k < count; k++, x += TILE) {
        if (is_signed)
            for (int i = 0; i < TILE; i++) words[i] += (uint32_t)(int32_t)(int8_t)x[i];
        else
            for (int i = 0; i < TILE; i++) words[i] += x[i];
    }
}

static void store_sums(const Tile *tile, const uint32_t *sums, uint32_t *out, int single) {
    if (single) /* images of one pixel */
        for (int64_t p = 0; p < tile->pixels; p++) out[tile->target[p].place] = sums[p];
    else
        for (int64_t r = 0; r < tile->target_runs; r++)
            copy_bytes((uint8_t *)(out + tile->target[r].place),
                       (const uint8_t *)(sums + tile->target[r].lane), tile->target[r].count * 4);
}

static void store_words(const Tile *tile, const uint8_t *row, uint8_t *out, int single) {
    if (single)
        for (int64_t p = 0; p < tile->pixels; p++) out[tile->target[p].place] = row[p];
    else
        for (int64_t r = 0; r < tile->target_runs; r++)
            copy_bytes(out + tile->target[r].place, row + tile->target[r].lane,
                       tile->target[r].count);
}

static void finish(const Convolution *job, const Tile *tile, int64_t filter, uint32_t *sums,
                   const uint32_t *words) {
    const int64_t area = job->out_height * job->out_width;
    if (job->weight_zero != NULL) {
        const uint32_t zero = (uint32_t)job->weight_zero[filter];
        for (int i = 0; i < TILE; i++) sums[i] -= zero * words[i];
    }
    if (!job->requantizes) {
        store_sums(tile, sums, (uint32_t *)job->out + filter * area, area == 1);
        return;
    }
    uint8_t row[TILE];
    const float multiplier = job->how.multiplier[job->how.multipliers == 1 ? 0 : filter];
    const Requantization how = job->how;
    for (int i = 0; i < TILE; i++)
        row[i] = (uint8_t)to_word((float)(int32_t)sums[i] * multiplier, &how);
    store_words(tile, row, (uint8_t *)job->out + filter * area, area == 1);
}

/* What sums begin with: whole numbers, of which a filter's lie apart if channels come last. */
static void add_maps(const Convolution *job, const Tile *tile, int64_t first, int64_t last,
                     uint32_t *sums) {
    const int64_t area = job->out_height * job->out_width;
    if (!job->addend_last) {
        for (int64_t m = first; m < last; m++)
            for (int64_t r = 0; r < tile->target_runs; r++) {
                const Run *run = &tile->target[r];
                const float *from = job->addend + m * area + run->place;
                uint32_t *to = sums + (m - first) * TILE + run->lane;
                for (int64_t i = 0; i < run->count; i++) to[i] += (uint32_t)(int32_t)from[i];
            }
        return;
    }
    for (int64_t p = 0; p < tile->pixels; p += 16) { /* 16 lines stay in the first-level cache */
        const float *from = job->addend + (tile->first + p) * job->filters;
        const int64_t pixels = tile->pixels - p < 16 ? tile->pixels - p : 16;
        for (int64_t m = first; m < last; m += 16)
            turn(sums + (m - first) * TILE + p, from + m, pixels, last - m < 16 ? last - m : 16,
                 job->filters);
    }
}

/* Filters [first, last) of one group on one tile. */
static void convolve_filters(const Convolution *job, const Tile *tile, int64_t first, int64_t last,
                             uint8_t *x, uint32_t *words, uint32_t *sums) {
    const int64_t group = first / (job->filters / job->groups);
    const int64_t terms =
        job->channels / job->groups * job->kernel_height * job->kernel_width;
    for (int64_t m = first; m < last; m++)
        for (int i = 0; i < TILE; i++) sums[(m - first) * TILE + i] = (uint32_t)job->start[m];
    if (job->addend != NULL) add_maps(job, tile, first, last, sums);
    if (job->weight_zero != NULL) memset(words, 0, TILE * 4);
    for (int64_t k = 0; k < terms; k += BLOCK) {
        const int64_t count = terms - k < BLOCK ? terms - k : BLOCK;
        fill_block(job, tile, group, k, count, x);
        const int seven = below_128(x, count);
        if (job->weight_zero != NULL) add_words(x, count, job->signed_words != 0, words);
        for (int64_t m = first; m < last; m++)
            look_up_block(x, job->weight + m * terms + k, count,
                          job->tables + job->choice[m] * 256 * job->planes * 256,
                          (int)job->planes, (int)tile->lanes, seven, sums + (m - first) * TILE);
    }
    for (int64_t m = first; m < last; m++)
        finish(job, tile, m, sums + (m - first) * TILE, words);
}

static int convolve(const Convolution *job, int64_t first, int64_t last, int64_t first_filter,
                    int64_t last_filter) {
    const int64_t a_group = job->filters / job->groups;
    const size_t block = BLOCK * TILE + SLACK, most = FILTERS * TILE * 4;
    uint8_t *scratch = malloc(64 + block + TILE * 4 + most + sizeof(Tile));
    if (scratch == NULL) return -1;
    uint8_t *x = scratch + (64 - (uintptr_t)scratch % 64);
    uint32_t *words = (uint32_t *)(x + block), *sums = words + TILE;
    Tile *tile = (Tile *)(sums + FILTERS * TILE);
    memset(x, 0, block);
    for (int64_t t = first; t < last; t++) {
        describe_tile(job, t * TILE, tile);
        for (int64_t m = first_filter, end; m < last_filter; m = end) {
            end = (m / a_group + 1) * a_group;
            if (end > m + FILTERS) end = m + FILTERS;
            if (end > last_filter) end = last_filter;
            convolve_filters(job, tile, m, end, x, words, sums);
        }
    }
    free(scratch);
    return 0;
}

/* Words [first, last) of arrays without gaps. */
static int remap_bytes(const void *data, int64_t first, int64_t last) {
    const RemapBytes *job = data;
    const int16_t *table = job->table;
    int16_t *words = job->target;
    if (job->long_words)
        for (int64_t i = first; i < last; i++) words[i] = table[job->source[i]];
    else
        remap_row((uint8_t *)job->target + first, job->source + first, last - first, job->table);
    return 0;
}

/* Rows [first, last). */
static int remap_terms(const void *data, int64_t first, int64_t last) {
    const RemapTerms *job = data;
    const int64_t count = job->inner, piece = 4096; /* stays in the first-level cache */
    for (int64_t r = first; r < last; r++) {
        const uint8_t *from = job->source + r * count;
        uint8_t *to = job->target + r * job->terms * count;
        if (count <= 64) {
            remap_short(to, from, count, job->tables, job->terms);
            continue;
        }
        for (int64_t i = 0; i < count; i += piece)
            for (int64_t t = 0; t < job->terms; t++)
                remap_row(to + t * count + i, from + i, count - i < piece ? count - i : piece,
                          job->tables + t * 256);
    }
    return 0;
}

#include "int8.h"
#include "maps.h"
#include "changed.h"
#include "rows.h"

/* The functions of a level, jobs in the order of their numbers. */
#define FUNCTIONS                                                                              \
    {convolve, {remap_bytes, remap_terms,     requantize_sums, add_two,       int8_convolve, \
                int8_pack,   rows,            quantize_values, pool_words,    average_words, \
                copy_elements, start_sums,  changed_convolution}}
