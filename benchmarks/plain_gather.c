/* The usual emulation of a multiplier, in plain C: every product is read from a table of 256 x 256
 * int32 entries. An image becomes rows of words, one row a pixel; each pixel then meets each filter,
 * with one load for each product, unrolled eight times. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t channels, height, width, filters, kernel_height, kernel_width;
    int64_t stride, pad_y, pad_x, out_height, out_width, padding_word;
} Shape;

static void gather_row(const Shape *s, const uint8_t *image, int64_t y, int64_t x, uint8_t *row) {
    for (int64_t c = 0; c < s->channels; c++)
        for (int64_t i = 0; i < s->kernel_height; i++)
            for (int64_t j = 0; j < s->kernel_width; j++) {
                const int64_t v = y * s->stride - s->pad_y + i, u = x * s->stride - s->pad_x + j;
                const int inside = v >= 0 && v < s->height && u >= 0 && u < s->width;
                *row++ = inside ? image[(c * s->height + v) * s->width + u] : s->padding_word;
            }
}

static int32_t sum_products(const uint8_t *a, const uint8_t *w, const int32_t *table, int64_t terms) {
    int32_t sum = 0;
    int64_t k = 0;
    for (; k + 8 <= terms; k += 8)
        sum += table[a[k] << 8 | w[k]] + table[a[k + 1] << 8 | w[k + 1]] +
               table[a[k + 2] << 8 | w[k + 2]] + table[a[k + 3] << 8 | w[k + 3]] +
               table[a[k + 4] << 8 | w[k + 4]] + table[a[k + 5] << 8 | w[k + 5]] +
               table[a[k + 6] << 8 | w[k + 6]] + table[a[k + 7] << 8 | w[k + 7]];
    for (; k < terms; k++) sum += table[a[k] << 8 | w[k]];
    return sum;
}

/* Images [first, last): words are [n][c][h][w], weights [m][c][i][j], sums [n][m][y][x]. */
static int gather_images(const Shape *s, const uint8_t *words, const uint8_t *weight,
                         const int32_t *table, int32_t *out, int64_t first, int64_t last) {
    const int64_t terms = s->channels * s->kernel_height * s->kernel_width;
    const int64_t pixels = s->out_height * s->out_width;
    uint8_t *rows = malloc(pixels * terms);
    if (rows == NULL) return -1;
    for (int64_t n = first; n < last; n++) {
        const uint8_t *image = words + n * s->channels * s->height * s->width;
        int32_t *sums = out + n * s->filters * pixels;
        for (int64_t p = 0; p < pixels; p++)
            gather_row(s, image, p / s->out_width, p % s->out_width, rows + p * terms);
        for (int64_t m = 0; m < s->filters; m++)
            for (int64_t p = 0; p < pixels; p++)
                sums[m * pixels + p] = sum_products(rows + p * terms, weight + m * terms, table, terms);
    }
    free(rows);
    return 0;
}

/* A slice of the images for each thread. */
int plain_gather(const Shape *s, const uint8_t *words, const uint8_t *weight, const int32_t *table,
                 int32_t *out, int64_t images, int64_t threads) {
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(| : failed)
    for (int64_t i = 0; i < threads; i++)
        failed |= gather_images(s, words, weight, table, out, images * i / threads,
                                images * (i + 1) / threads);
    return failed;
}
