#!/usr/bin/env bash
# Renders the sample clip and the same clip as HLS into samples/media. Needs ffmpeg with libx264.
set -euo pipefail
cd "$(dirname "$0")/media"
mkdir -p hls
rm -f clip.mp4 hls/*

# Two-second groups of pictures, so that HLS can cut where the file has a key frame. One thread and
# bitexact: the same ffmpeg gives the same bytes.
ffmpeg -hide_banner -loglevel error -nostdin -y \
    -f lavfi -i 'testsrc2=size=640x360:rate=25:duration=8' \
    -f lavfi -i 'sine=frequency=440:beep_factor=4:sample_rate=48000:duration=8' \
    -vf "drawtext=timecode='10\:00\:00\:00':rate=25:fontsize=36:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=8:x=(w-tw)/2:y=h-th-24" \
    -c:v libx264 -preset slow -b:v 420k -maxrate 600k -bufsize 800k -pix_fmt yuv420p \
    -g 50 -keyint_min 50 -sc_threshold 0 -threads 1 \
    -c:a aac -b:a 64k -ac 1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact \
    -movflags +faststart clip.mp4

ffmpeg -hide_banner -loglevel error -nostdin -y -i clip.mp4 -c copy -fflags +bitexact \
    -f hls -hls_time 2 -hls_playlist_type vod -hls_list_size 0 \
    -hls_segment_filename 'hls/segment-%d.ts' hls/index.m3u8
