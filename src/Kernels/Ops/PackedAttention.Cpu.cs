// Packed attention on the CPU: one thread per example and head, all intermediate results in that thread's working memory. Contract: PackedAttention.cs.
// Here: who works on what. The work itself: PackedAttention.Managed.cs, and on bf16 machine code PackedAttention.MachineCode.cs.
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class PackedAttention
{
    /// <summary>The work by a named micro-kernel and its vector, validated arguments; tests compare them all on one machine.</summary>
    internal static void RunWith<TKernel, V>(CpuDevice cpu, in Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
        where TKernel : unmanaged, IMicroKernel
        where V : unmanaged, ISimd<V> => Cpu.Execute(cpu, operands, queryOffsets, keyOffsets, new ManagedHead<TKernel, V>(operands));

    /// <summary>The work on machine code, which the device must have active; validated arguments.</summary>
    internal static void RunMachineCode(CpuDevice cpu, in Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets) =>
        Cpu.Execute(cpu, operands, queryOffsets, keyOffsets, new MachineCodeHead(operands, cpu.MachineCode.Functions));

    /// <summary>One example's head, forward or backward as the operands ask for.</summary>
    private unsafe interface IHeadWork
    {
        /// <summary>Working memory for so many positions.</summary>
        long Floats(int queries, int keys);

        /// <summary>Does the work.</summary>
        /// <param name="memory">As many floats as asked for, at a cache line.</param>
        /// <param name="h">The head.</param>
        /// <param name="queries">Queries of the example.</param>
        /// <param name="keys">Keys of the example.</param>
        /// <param name="atQuery">First element of the head in the tensors by query.</param>
        /// <param name="atKey">First element of the head in the tensors by key.</param>
        void Run(float* memory, int h, int queries, int keys, long atQuery, long atKey);
    }

    private static unsafe class Cpu
    {
        // So many pieces a thread and there is always something left for the one that is done first. Beyond that heads of one example stay
        // together: its rows are read as they lie, a head's part of a row beside the next one's.
        private const int PiecesPerWorker = 16;

        public static void Run(CpuDevice cpu, in Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets)
        {
            if (operands.Compute == ComputeType.BF16 && cpu.MachineCode.Status.IsActive && operands.Width <= BF16Tile.Kc)
                RunMachineCode(cpu, operands, queryOffsets, keyOffsets);
            else if (Vector512.IsHardwareAccelerated)
                RunWith<MicroKernel512, F32x16>(cpu, operands, queryOffsets, keyOffsets);
            else if (Vector256.IsHardwareAccelerated)
                RunWith<MicroKernel256, F32x8>(cpu, operands, queryOffsets, keyOffsets);
            else if (Vector128.IsHardwareAccelerated)
                RunWith<MicroKernel128, F32x4>(cpu, operands, queryOffsets, keyOffsets);
            else
                RunWith<MicroKernelScalar, F32x1>(cpu, operands, queryOffsets, keyOffsets);
        }

        public static void Execute<TWork>(CpuDevice cpu, in Operands operands, ReadOnlySpan<int> queryOffsets, ReadOnlySpan<int> keyOffsets, TWork work)
            where TWork : unmanaged, IHeadWork
        {
            const string Purpose = "attention's working memory";
            int examples = queryOffsets.Length - 1;
            bool backward = !operands.Dk.IsEmpty;
            long floats = 0;
            double flops = 0;
            for (int b = 0; b < examples; b++)
            {
                int queries = queryOffsets[b + 1] - queryOffsets[b], keys = keyOffsets[b + 1] - keyOffsets[b];
                floats = Math.Max(floats, work.Floats(queries, keys));
                flops += (backward ? 10.0 : 4.0) * queries * keys * operands.Width * operands.Heads;
            }
            int items = checked(examples * operands.Heads);
            int perTask = flops < GemmBlocking.SerialFlops ? items : Math.Clamp(items / (PiecesPerWorker * cpu.Pool.Workers), 1, operands.Heads);
            int tasks = GemmBlocking.Pieces(items, perTask);
            fixed (int* q = queryOffsets, k = keyOffsets)
            {
                if (cpu.Pool.IsInsideBody)
                {
                    // The workers' memory may be in use around this call.
                    float* own = WorkerMemory.Allocate(floats, Purpose);
                    try
                    {
                        var body = new Body<TWork>(work, operands, q, k, own, 0, items, perTask);
                        cpu.Pool.Run(tasks, ref body);
                    }
                    finally
                    {
                        NativeMemory.AlignedFree(own);
                    }
                    return;
                }
                lock (cpu.Pool.Gate)
                {
                    float* memory = cpu.Memory.Take(floats, Purpose, out long perWorker);
                    var body = new Body<TWork>(work, operands, q, k, memory, perWorker, items, perTask);
                    cpu.Pool.Run(tasks, ref body);
                }
            }
        }
    }

    /// <summary>One piece: a few heads, or all of them where there is little to do.</summary>
    private readonly unsafe struct Body<TWork>(TWork work, in Operands operands, int* queryOffsets, int* keyOffsets, float* memory, long perWorker, int items, int perTask) : IParallelBody
        where TWork : unmanaged, IHeadWork
    {
        private readonly TWork _work = work;
        private readonly int _heads = operands.Heads, K = operands.Width;
        private readonly int* _queryOffsets = queryOffsets, _keyOffsets = keyOffsets;
        private readonly float* _memory = memory;
        private readonly long _perWorker = perWorker;
        private readonly int _items = items, _perTask = perTask;

        public void Invoke(int task, int worker)
        {
            float* memory = _memory + worker * _perWorker;
            long step = (long)_heads * K;
            int end = Math.Min(_items, (task + 1) * _perTask);
            for (int item = task * _perTask; item < end; item++)
            {
                int b = item / _heads, h = item % _heads;
                int queries = _queryOffsets[b + 1] - _queryOffsets[b], keys = _keyOffsets[b + 1] - _keyOffsets[b];
                _work.Run(memory, h, queries, keys, _queryOffsets[b] * step + (long)h * K, _keyOffsets[b] * step + (long)h * K);
            }
        }
    }

    /// <summary>The tensors as pointers, and what both kinds of work do alike.</summary>
    private readonly unsafe struct HeadTensors(in Operands operands)
    {
        public readonly float* Q = (float*)operands.Q.Address, K = (float*)operands.K.Address, V = (float*)operands.V.Address;
        public readonly float* Context = (float*)operands.Context.Address, Bias = (float*)operands.Bias.Table.Address;
        public readonly float* Dq = (float*)operands.Dq.Address, Dk = (float*)operands.Dk.Address, Dv = (float*)operands.Dv.Address;
        public readonly int Width = operands.Width;
        public readonly bool Causal = operands.Causal;
        public readonly long Step = (long)operands.Heads * operands.Width;
        private readonly int _biasLength = operands.Bias.Length;

        /// <summary>Fills what the softmax reads beside the scores: the lanes' numbers, and a head's bias.</summary>
        /// <param name="h">The head.</param>
        /// <param name="queries">Queries of the example.</param>
        /// <param name="keys">Keys of the example.</param>
        /// <param name="columns">Queries across a panel.</param>
        /// <param name="numbers">Receives 0 to columns - 1.</param>
        /// <param name="bias">Receives queries + keys + columns floats.</param>
        public void Prepare(int h, int queries, int keys, int columns, float* numbers, float* bias)
        {
            for (int i = 0; i < columns; i++)
                numbers[i] = i;
            if (Bias == null)
                return;
            // Queries run across the panel, and the bias falls back by one with each: read in reverse it is a plain load.
            int distances = queries + keys - 1;
            new ReadOnlySpan<float>(Bias + h * (2L * _biasLength - 1) + _biasLength - queries, distances).CopyTo(new Span<float>(bias, distances));
            new Span<float>(bias, distances).Reverse();
            new Span<float>(bias + distances, columns).Clear();
        }

        /// <summary>A result is a panel of queries across: turned, its rows are those of the tensor.</summary>
        /// <param name="result">[K, width].</param>
        /// <param name="to">First element of the head in the first query's row.</param>
        /// <param name="columns">Queries that exist.</param>
        /// <param name="width">Queries across.</param>
        /// <param name="rows">Memory for width * K floats.</param>
        public void StoreRows(float* result, float* to, int columns, int width, float* rows)
        {
            Packing.AlongRows(new F32Source(result, width), 0, 0, width, Width, Width, rows);
            for (int i = 0; i < columns; i++)
                new ReadOnlySpan<float>(rows + (long)i * Width, Width).CopyTo(new Span<float>(to + i * Step, Width));
        }
    }
}
