#!/usr/bin/env bash
# A search on machines of Slurm: `sbatch docs/clusters/slurm.sh`; docs/cluster.md says more.
# Ray runs on these machines for this search alone. It stops every Ray that it finds there, hence --exclusive.
#SBATCH --job-name=unet-search
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=08:30:00
set -euo pipefail
cd /shared/unet-search
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
test -s ~/.ray/auth_token || ray get-auth-token --generate >/dev/null  # in the home that all machines share
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python -m search.run --address auto --storage /shared/runs --data /shared/my-pictures --max-time 8h
