#!/bin/sh
# A Ray cluster inside a Slurm job and a search on it: sbatch cluster/slurm.sh
# The checkout and the environment (.venv) have to lie on a file system that all machines share.
#SBATCH --job-name=sbridge-tune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
set -eu
cd "$SLURM_SUBMIT_DIR"
. .venv/bin/activate
export RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$head:6379"

# --block keeps a step alive as long as its Ray.
srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port=6379 --block &
sleep 20
if [ "$SLURM_NNODES" -gt 1 ]; then
    srun --nodes="$((SLURM_NNODES - 1))" --ntasks="$((SLURM_NNODES - 1))" --exclude="$head" \
        ray start --address="$address" --block &
    sleep 20
fi

# Two minutes before the end Slurm interrupts this script: the search writes what it has, and the next job resumes it.
out=runs/tuned
resume=
[ -e "$out/study.json" ] && resume=--resume
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    sbridge tune mixture --dim 16 --trials 200 --gpus-per-trial 0.25 --address "$address" --out "$out" $resume &
search=$!
trap 'kill -TERM $search' TERM
wait $search || wait $search  # the first ends with the signal, the second with the search
