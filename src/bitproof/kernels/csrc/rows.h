/* Norms and softmaxes of rows of words, in one pass; a part of level.h. The operations are those of
 * `arithmetic.py` in float64, in the same order: sums of whole numbers are exact in any. */

static void write_row(const Rows *job, const double *values, int64_t first) {
    const double limit = 1099511627776.0, shift = 6755399441055744.0; /* 2**40, 1.5 * 2**52 */
    const double point = job->zero_point, low = job->low, high = job->high;
    const int truncate = job->truncate != 0;
    int32_t words[ROW_PIECE];
    for (int64_t start = 0; start < job->count; start += ROW_PIECE) {
        const int64_t count =
            job->count - start < ROW_PIECE ? job->count - start : (int64_t)ROW_PIECE;
        for (int64_t i = 0; i < count; i++) {
            double value = values[start + i];
            value = value < limit ? value : limit;
            value = value > -limit ? value : -limit;
            value = truncate ? value : (value + shift) - shift; /* rounds half to even */
            value = value + point;
            value = value > low ? value : low;
            value = value < high ? value : high;
            words[i] = (int32_t)value;
        }
        const int64_t at = first + start;
        if (job->out_kind == SIGNED_16)
            for (int64_t i = 0; i < count; i++) ((int16_t *)job->out)[at + i] = (int16_t)words[i];
        else
            for (int64_t i = 0; i < count; i++) ((uint8_t *)job->out)[at + i] = (uint8_t)words[i];
    }
}

/* Words minus their zero point. */
static void center_row(const Rows *job, int64_t first, double *to) {
    const uint8_t *bytes = (const uint8_t *)job->words + first;
    const int8_t *numbers = (const int8_t *)job->words + first;
    const int16_t *longer = (const int16_t *)job->words + first;
    const double point = job->point;
    if (job->kind == UNSIGNED_8)
        for (int64_t i = 0; i < job->count; i++) to[i] = (double)bytes[i] - point;
    else if (job->kind == SIGNED_8)
        for (int64_t i = 0; i < job->count; i++) to[i] = (double)numbers[i] - point;
    else
        for (int64_t i = 0; i < job->count; i++) to[i] = (double)longer[i] - point;
}

static void normalize_row(const Rows *job, double *x) {
    const double count = (double)job->count, scale = job->scale;
    int64_t total = 0, squares = 0; /* whole numbers: exact, and free to be added side by side */
    for (int64_t i = 0; i < job->count; i++) {
        const int64_t word = (int64_t)x[i];
        total += word;
        squares += word * word;
    }
    const double sum = (double)total;
    const double root = sqrt(count * (double)squares - sum * sum + job->floor);
    for (int64_t i = 0; i < job->count; i++) x[i] = (count * x[i] - sum) / root;
    if (job->weight != NULL)
        for (int64_t i = 0; i < job->count; i++) x[i] = x[i] * job->weight[i];
    if (job->bias != NULL)
        for (int64_t i = 0; i < job->count; i++) x[i] = x[i] + job->bias[i];
    for (int64_t i = 0; i < job->count; i++) x[i] = x[i] / scale;
}

static void weigh_row(const Rows *job, double *x) {
    double largest = x[0], total = 0;
    for (int64_t i = 1; i < job->count; i++) largest = x[i] > largest ? x[i] : largest;
    for (int64_t i = 0; i < job->count; i++) {
        const double word = x[i];
        x[i] = job->masked && word == job->floor ? 0.0 : job->table[(int64_t)(largest - word)];
        total += x[i];
    }
    for (int64_t i = 0; i < job->count; i++) x[i] = x[i] / total / job->scale;
}

/* Rows [first, last); 0, or -1 if there is no memory. */
static int rows(const void *data, int64_t first, int64_t last) {
    const Rows *job = data;
    double *x = malloc((size_t)job->count * sizeof(double));
    if (x == NULL) return -1;
    for (; first < last; first++) {
        center_row(job, first * job->count, x);
        if (job->table != NULL)
            weigh_row(job, x);
        else
            normalize_row(job, x);
        write_row(job, x, first * job->count);
    }
    free(x);
    return 0;
}
