// Adafactor's step on the CPU. Contract and formulas: AdafactorUpdate.cs.
using System.Runtime.CompilerServices;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Ops;

public static partial class AdafactorUpdate
{
    private static unsafe class Cpu
    {
        // A cache line of floats: the columns that one piece of the column sums takes.
        private const int ColumnGroup = 16;

        public static void RunFull(CpuDevice cpu, Tensor g, Tensor v, Tensor p, Tensor sums, long rows, long columns, in AdafactorCoefficients k)
        {
            var moment = new FullMoment { G = (float*)g.Address, V = (float*)v.Address, Sums = (double*)sums.Address, Columns = columns, K = k };
            CpuRows.Run(cpu, rows, columns, moment);
            float divisor = ClipDivisor(moment.Sums, rows, columns, k);
            CpuRows.Run(cpu, rows, columns, new FullStep { G = moment.G, V = moment.V, P = (float*)p.Address, Columns = columns, Divisor = divisor, K = k });
        }

        public static void RunFactored(
            CpuDevice cpu, Tensor g, Tensor r, Tensor c, Tensor p, Tensor sums, Tensor factors, long rows, long columns, in AdafactorCoefficients k)
        {
            double* rowSums = (double*)sums.Address;
            double* columnSums = rowSums + rows;
            float* rowFactors = (float*)factors.Address;
            float* columnFactors = rowFactors + rows;
            float* from = (float*)g.Address;
            CpuRows.Run(cpu, rows, columns, new RowSquares { G = from, Sums = rowSums, Columns = columns });
            CpuRows.Run(cpu, (columns + ColumnGroup - 1) / ColumnGroup, rows * ColumnGroup, new ColumnSquares { G = from, Sums = columnSums, TotalRows = rows, Columns = columns });
            double mean = 0;
            Average((float*)r.Address, rowSums, rows, columns, k);
            for (long i = 0; i < rows; i++)
                mean += ((float*)r.Address)[i];
            mean /= rows;
            Average((float*)c.Address, columnSums, columns, rows, k);
            Factors((float*)r.Address, rowFactors, rows, (float)mean);
            Factors((float*)c.Address, columnFactors, columns, 1);
            var step = new FactoredStep
            {
                G = from,
                RowFactors = rowFactors,
                ColumnFactors = columnFactors,
                P = (float*)p.Address,
                Sums = rowSums,
                Columns = columns,
                K = k,
            };
            CpuRows.Run(cpu, rows, columns, step);
            step.Divisor = ClipDivisor(rowSums, rows, columns, k);
            CpuRows.Run(cpu, rows, columns, step);
        }

        private static float ClipDivisor(double* sums, long rows, long columns, in AdafactorCoefficients k)
        {
            double sum = 0;
            for (long i = 0; i < rows; i++)
                sum += sums[i];
            // Math.Max keeps a NaN: a broken gradient breaks the parameter, and the trainer stops.
            return (float)Math.Max(1, Math.Sqrt(sum / ((double)rows * columns)) / k.ClipThreshold);
        }

        // moment = beta2 moment + (1 - beta2) (sum / count + eps)
        private static void Average(float* moment, double* sums, long n, long count, in AdafactorCoefficients k)
        {
            for (long i = 0; i < n; i++)
                moment[i] = k.Beta2 * moment[i] + k.NewWeight * (float)(sums[i] / count + k.Epsilon);
        }

        private static void Factors(float* moment, float* factors, long n, float mean)
        {
            for (long i = 0; i < n; i++)
                factors[i] = 1 / MathF.Sqrt(moment[i] / mean);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private static T Stepped<T>(T p, T y, T divisor, in AdafactorCoefficients k)
            where T : unmanaged, ISimd<T> =>
            T.MultiplyAdd(p, T.Broadcast(k.Shrink), p * T.Broadcast(k.Keep)) - y / divisor * T.Broadcast(k.LearningRate);

        private struct FullMoment : IRowKernel
        {
            public float* G, V;
            public double* Sums;
            public long Columns;
            public AdafactorCoefficients K;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<T>(long first, long end)
                where T : unmanaged, ISimd<T>
            {
                for (long row = first; row < end; row++)
                {
                    float* g = G + row * Columns;
                    float* v = V + row * Columns;
                    double sum = 0;
                    long j = 0;
                    if (T.Lanes > 1)
                    {
                        T lower = T.Broadcast(0), upper = T.Broadcast(0);
                        for (; j <= Columns - T.Lanes; j += T.Lanes)
                        {
                            T y = At<T>(g + j, v + j, K);
                            lower = T.AddProductsLower(lower, y, y);
                            upper = T.AddProductsUpper(upper, y, y);
                        }
                        sum = T.SumDoubles(lower, upper);
                    }
                    for (; j < Columns; j++)
                    {
                        double y = At<F32x1>(g + j, v + j, K).Value;
                        sum += y * y;
                    }
                    Sums[row] = sum;
                }
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private static T At<T>(float* g, float* v, in AdafactorCoefficients k)
                where T : unmanaged, ISimd<T>
            {
                T gradient = T.Load(g);
                T moment = T.MultiplyAdd(gradient * gradient + T.Broadcast(k.Epsilon), T.Broadcast(k.NewWeight), T.Load(v) * T.Broadcast(k.Beta2));
                moment.Store(v);
                return T.Broadcast(1) / T.Sqrt(moment) * gradient;
            }
        }

        private struct FullStep : IRowKernel
        {
            public float* G, V, P;
            public long Columns;
            public float Divisor;
            public AdafactorCoefficients K;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<T>(long first, long end)
                where T : unmanaged, ISimd<T>
            {
                long i = first * Columns, stop = end * Columns;
                for (; i <= stop - T.Lanes; i += T.Lanes)
                    At<T>(i);
                for (; i < stop; i++)
                    At<F32x1>(i);
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private readonly void At<T>(long i)
                where T : unmanaged, ISimd<T>
            {
                T y = T.Broadcast(1) / T.Sqrt(T.Load(V + i)) * T.Load(G + i);
                Stepped(T.Load(P + i), y, T.Broadcast(Divisor), K).Store(P + i);
            }
        }

        private struct RowSquares : IRowKernel
        {
            public float* G;
            public double* Sums;
            public long Columns;

            public readonly void Rows<T>(long first, long end)
                where T : unmanaged, ISimd<T>
            {
                for (long row = first; row < end; row++)
                    Sums[row] = RowMath.Dot<T>(G + row * Columns, G + row * Columns, Columns);
            }
        }

        // Its "rows" are groups of columns, so that each sum belongs to one thread and is taken from the top down.
        private struct ColumnSquares : IRowKernel
        {
            public float* G;
            public double* Sums;
            public long TotalRows, Columns;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<T>(long first, long end)
                where T : unmanaged, ISimd<T>
            {
                long j = first * ColumnGroup, stop = Math.Min(end * ColumnGroup, Columns);
                if (T.Lanes > 1)
                {
                    for (; j <= stop - T.Lanes; j += T.Lanes)
                    {
                        T lower = T.Broadcast(0), upper = T.Broadcast(0);
                        for (long i = 0; i < TotalRows; i++)
                        {
                            T g = T.Load(G + i * Columns + j);
                            lower = T.AddProductsLower(lower, g, g);
                            upper = T.AddProductsUpper(upper, g, g);
                        }
                        // Each register holds half as many doubles.
                        lower.Store((float*)(Sums + j));
                        upper.Store((float*)(Sums + j + T.Lanes / 2));
                    }
                }
                for (; j < stop; j++)
                {
                    double sum = 0;
                    for (long i = 0; i < TotalRows; i++)
                        sum += (double)G[i * Columns + j] * G[i * Columns + j];
                    Sums[j] = sum;
                }
            }
        }

        // Run twice: with no divisor it sums y^2, with one it moves the parameter.
        private struct FactoredStep : IRowKernel
        {
            public float* G, RowFactors, ColumnFactors, P;
            public double* Sums;
            public long Columns;
            public float Divisor;
            public AdafactorCoefficients K;

            [MethodImpl(Jit.Loop)]
            public readonly void Rows<T>(long first, long end)
                where T : unmanaged, ISimd<T>
            {
                for (long row = first; row < end; row++)
                {
                    if (Divisor == 0)
                        Sums[row] = Squares<T>(row);
                    else
                        Move<T>(row);
                }
            }

            [MethodImpl(Jit.Loop)]
            private readonly double Squares<T>(long row)
                where T : unmanaged, ISimd<T>
            {
                double sum = 0;
                long j = 0;
                if (T.Lanes > 1)
                {
                    T lower = T.Broadcast(0), upper = T.Broadcast(0);
                    for (; j <= Columns - T.Lanes; j += T.Lanes)
                    {
                        T y = Update<T>(row, j);
                        lower = T.AddProductsLower(lower, y, y);
                        upper = T.AddProductsUpper(upper, y, y);
                    }
                    sum = T.SumDoubles(lower, upper);
                }
                for (; j < Columns; j++)
                {
                    double y = Update<F32x1>(row, j).Value;
                    sum += y * y;
                }
                return sum;
            }

            [MethodImpl(Jit.Loop)]
            private readonly void Move<T>(long row)
                where T : unmanaged, ISimd<T>
            {
                float* p = P + row * Columns;
                long j = 0;
                for (; j <= Columns - T.Lanes; j += T.Lanes)
                    Stepped(T.Load(p + j), Update<T>(row, j), T.Broadcast(Divisor), K).Store(p + j);
                for (; j < Columns; j++)
                    Stepped(F32x1.Load(p + j), Update<F32x1>(row, j), F32x1.Broadcast(Divisor), K).Store(p + j);
            }

            [MethodImpl(MethodImplOptions.AggressiveInlining)]
            private readonly T Update<T>(long row, long j)
                where T : unmanaged, ISimd<T> => T.Broadcast(RowFactors[row]) * T.Load(ColumnFactors + j) * T.Load(G + row * Columns + j);
        }
    }
}
