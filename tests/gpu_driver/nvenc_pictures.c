/* The order of pictures in the stand-in encoder, and when it reads them.
 *
 * Pictures come in display order. The encoder holds them until their mini-GOP is complete and
 * enough others lie behind it for the look-ahead. It puts the last picture of a mini-GOP first: a P
 * picture, then its B pictures. A picture is read as late as the real encoder may read it: when its
 * packet is taken, or when its input buffer is about to be written again. So a picture that was
 * changed too early is seen: by its checksum, and by whoever looks at the film.
 *
 * Every picture is written as I_PCM, whatever its type is called. HEVC is not written at all.
 */
#include "nvenc.h"

#include <string.h>

int is_held(const struct session *session, const struct input *input)
{
    for (unsigned at = 0; at < session->held_count; at++)
        if (session->held[at].input == input)
            return 1;
    return 0;
}

static struct h264_samples samples_of(const struct input *input)
{
    const uint8_t *chroma = input->bytes + (size_t)input->pitch * input->height;
    if (input->format == NV_ENC_BUFFER_FORMAT_NV12)
        return (struct h264_samples){input->bytes, chroma, NULL, input->pitch, input->pitch};
    /* YV12 has Cr first */
    const uint8_t *cb = chroma + (size_t)(input->pitch / 2) * (input->height / 2);
    return (struct h264_samples){input->bytes, cb, chroma, input->pitch, input->pitch / 2};
}

/* FNV-1a of all samples. The padding of rows is nobody's. */
static uint64_t checksum(const struct input *input)
{
    uint64_t sum = 0xcbf29ce484222325u;
    int is_planar = input->format == NV_ENC_BUFFER_FORMAT_YV12;
    const uint8_t *row = input->bytes;
    unsigned rows = input->height, width = input->width, pitch = input->pitch;
    for (int plane = 0; plane < 2; plane++) {
        for (unsigned y = 0; y < rows; y++, row += pitch)
            for (unsigned x = 0; x < width; x++)
                sum = (sum ^ row[x]) * 0x100000001b3u;
        rows = is_planar ? input->height : input->height / 2;
        width = is_planar ? input->width / 2 : input->width;
        pitch = is_planar ? input->pitch / 2 : input->pitch;
    }
    return sum;
}

/* Reads the samples of a packet's picture, unless that has happened. */
static void write_packet(struct session *session, struct bitstream *bitstream)
{
    const struct picture *picture = &bitstream->picture;
    const struct input *input = picture->input;
    if (bitstream->size)
        return;
    if (checksum(input) != picture->checksum)
        driver_complain("the picture of time %llu was changed while the encoder held it",
                        (unsigned long long)picture->time);
    struct h264_samples samples = samples_of(input);
    size_t size = 0;
    if (bitstream->slice.is_idr && session->sets_in_stream)
        size = h264_parameter_sets(&session->format, bitstream->bytes);
    bitstream->size = size + h264_picture(&session->format, &bitstream->slice, &samples,
                                          bitstream->bytes + size);
}

/* The next packet is this picture: number `display` since the last key frame, of this type. */
static void decide(struct session *session, const struct picture *picture, unsigned display,
                   uint32_t type)
{
    struct bitstream *bitstream = session->outputs[0];
    memmove(session->outputs, session->outputs + 1, --session->output_count * sizeof(void *));
    int is_idr = type == NV_ENC_PIC_TYPE_IDR;
    if (is_idr) {
        session->frame_num = 0;
        session->idr_count++;
    }
    bitstream->picture = *picture;
    bitstream->type = type;
    bitstream->slice = (struct h264_slice){
        .is_idr = is_idr, .is_reference = type != NV_ENC_PIC_TYPE_B,
        .frame_num = session->frame_num & 0xffff, .idr_pic_id = session->idr_count & 1,
        .pic_order_cnt_lsb = 2 * display & 0xffff,
    };
    session->frame_num += type != NV_ENC_PIC_TYPE_B; /* it counts the references before it */
    bitstream->has_picture = 1;
    bitstream->size = 0;
    session->decided[session->decided_count++] = bitstream;
}

/* How many of the held pictures come next: one key frame, or a whole mini-GOP. 0: wait. */
static unsigned next_group(const struct session *session)
{
    unsigned count = 0;
    if (!session->held_count || (session->held_count <= session->lookahead && !session->has_ended))
        return 0;
    if (session->held[0].is_idr)
        return 1;
    while (count < session->held_count && count < session->interval
           && !session->held[count].is_idr)
        count++;
    int is_complete = count == session->interval || count < session->held_count
                      || session->has_ended;
    return is_complete ? count : 0;
}

/* Gives types to all pictures that need not wait. Says whether there were any. */
static int decide_all(struct session *session)
{
    int any = 0;
    for (unsigned count; (count = next_group(session)); any = 1) {
        int is_idr = session->held[0].is_idr;
        unsigned first = is_idr ? 0 : session->display;
        decide(session, &session->held[count - 1], first + count - 1,
               is_idr ? NV_ENC_PIC_TYPE_IDR : NV_ENC_PIC_TYPE_P);
        for (unsigned at = 0; at + 1 < count; at++)
            decide(session, &session->held[at], first + at, NV_ENC_PIC_TYPE_B);
        session->display = first + count;
        session->held_count -= count;
        memmove(session->held, session->held + count, session->held_count * sizeof *session->held);
    }
    return any;
}

static void check_picture(struct session *session, const PICTURE *picture)
{
    const struct input *input = picture->input;
    if (picture->pitch != input->pitch
        || (picture->width && picture->width != input->width)
        || (picture->height && picture->height != input->height))
        driver_complain("nvEncEncodePicture: %ux%u with a pitch of %u bytes, but the input is "
                        "%ux%u with %u", picture->width, picture->height, picture->pitch,
                        input->width, input->height, input->pitch);
    if (driver_is_open("registered resource", input->bytes, NULL) && !input->is_mapped)
        driver_complain("nvEncEncodePicture: the input is not mapped");
    int is_early = is_held(session, input);
    for (unsigned at = 0; at < session->decided_count; at++)
        is_early |= session->decided[at]->picture.input == input && !session->decided[at]->size;
    if (is_early)
        driver_complain("nvEncEncodePicture: the input is used again before its packet is out");
}

NVENCSTATUS encode_picture(struct session *session, PICTURE *picture)
{
    driver_need_context(session->context, "nvEncEncodePicture");
    if (picture->flags & NV_ENC_PIC_FLAG_EOS) {
        session->has_ended = 1;
        decide_all(session);
        return NV_ENC_SUCCESS;
    }
    if (session->is_hevc)
        return NV_ENC_ERR_UNIMPLEMENTED;
    if (session->held_count == MOST_HELD || session->output_count == MOST_HELD)
        return NV_ENC_ERR_OUT_OF_MEMORY;
    check_picture(session, picture);
    struct bitstream *output = picture->bitstream;
    output->has_picture = 0;
    session->outputs[session->output_count++] = output;
    int is_idr = picture->flags & NV_ENC_PIC_FLAG_FORCEIDR
                 || session->since_idr == 0 || session->since_idr >= session->gop_length;
    session->since_idr = is_idr ? 1 : session->since_idr + 1;
    session->held[session->held_count++] = (struct picture){
        picture->input, picture->time, checksum(picture->input), is_idr};
    return decide_all(session) ? NV_ENC_SUCCESS : NV_ENC_ERR_NEED_MORE_INPUT;
}

NVENCSTATUS lock_bitstream(struct session *session, LOCK_BITSTREAM *wanted)
{
    struct bitstream *bitstream = wanted->bitstream;
    driver_need_context(session->context, "nvEncLockBitstream");
    if (!bitstream->has_picture) {
        driver_complain("nvEncLockBitstream: its picture is still held, the real call would hang");
        return NV_ENC_ERR_INVALID_CALL;
    }
    write_packet(session, bitstream);
    for (unsigned at = 0; at < session->decided_count; at++)
        if (session->decided[at] == bitstream) {
            memmove(session->decided + at, session->decided + at + 1,
                    (--session->decided_count - at) * sizeof(void *));
            break;
        }
    wanted->bytes = bitstream->bytes;
    wanted->size = (uint32_t)bitstream->size;
    wanted->time = bitstream->picture.time;
    wanted->type = bitstream->type;
    wanted->structure = 1; /* a frame */
    wanted->average_qp = 1;
    wanted->slices = 1;
    return NV_ENC_SUCCESS;
}

NVENCSTATUS unlock_bitstream(struct session *session, struct bitstream *bitstream)
{
    driver_need_context(session->context, "nvEncUnlockBitstream");
    bitstream->has_picture = 0;
    return NV_ENC_SUCCESS;
}

/* The real call waits until the encoder has read what is in the buffer. */
NVENCSTATUS lock_input(struct session *session, LOCK_INPUT *wanted)
{
    struct input *input = wanted->buffer;
    driver_need_context(session->context, "nvEncLockInputBuffer");
    if (is_held(session, input))
        driver_complain("nvEncLockInputBuffer: the encoder still holds the picture");
    for (unsigned at = 0; at < session->decided_count; at++)
        if (session->decided[at]->picture.input == input)
            write_packet(session, session->decided[at]);
    input->is_mapped = 1;
    wanted->data = input->bytes;
    wanted->pitch = input->pitch;
    return NV_ENC_SUCCESS;
}

NVENCSTATUS unlock_input(struct session *session, struct input *input)
{
    driver_need_context(session->context, "nvEncUnlockInputBuffer");
    if (!input->is_mapped)
        driver_complain("nvEncUnlockInputBuffer: it is not locked");
    input->is_mapped = 0;
    return NV_ENC_SUCCESS;
}
