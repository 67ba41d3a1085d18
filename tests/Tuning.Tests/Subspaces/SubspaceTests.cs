// Every kind of subspace: decoding against plain loops, gradients against differences in double, files, refusals.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Checkpoints;
using IptNative.Optimizers;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Subspaces;
using Xunit;

namespace IptNative.Tuning.Tests.Subspaces;

public sealed class SubspaceTests : IDisposable
{
    private const int Length = 3, Width = 7, Elements = Length * Width, Intrinsic = 4;

    private static readonly ModelIdentity Model = new("tiny", "0123456789abcdef0123");

    private readonly CpuDevice _device = new(2);
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative").FullName;

    public static TheoryData<string> Kinds => ["tanh", "relu", "gelu", "identity", "no bias", "random-linear", "fastfood", "pca"];

    private static SubspaceHeader Header => new() { Kind = SubspaceKind.Autoencoder, Model = Model, PromptLength = Length, DModel = Width, IntrinsicDim = Intrinsic, InnerDim = 6, SourceTasks = ["a", "b"] };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void TheGradientIsTheSlopeOfDecoding(string kind)
    {
        using PromptSubspace subspace = Create(kind);
        const int Rows = 3;
        float[] z = Normal(Rows * Intrinsic, 1), dPrompts = Normal(Rows * Elements, 2), scales = [2, 0.5f, 1];
        using DeviceBuffer tz = Upload(z), prompts = Upload(new float[Rows * Elements]), td = Upload(dPrompts), dz = Upload(new float[Rows * Intrinsic]);
        subspace.Decode(tz.Tensor, Rows, prompts.Tensor, scales);
        subspace.DecodeBackward(td.Tensor, Rows, dz.Tensor, scales);
        float[] ours = dz.Tensor.ToArray<float>();
        for (int r = 0; r < Rows; r++)
        {
            for (int k = 0; k < Intrinsic; k++)
            {
                // Central differences over float decodings: h^2 of curvature and eps / h of rounding, both some 1e-4 of the gradient's size.
                const float H = 1.0f / 128;
                double slope = (Scalar(r, k, H) - Scalar(r, k, -H)) / (2 * H);
                double size = Enumerable.Range(0, Elements).Sum(i => Math.Abs(dPrompts[r * Elements + i])) * scales[r];
                Assert.Equal(slope, ours[r * Intrinsic + k], 1e-3 * size);
            }
        }

        double Scalar(int row, int k, float step)
        {
            float[] moved = z[(row * Intrinsic)..((row + 1) * Intrinsic)];
            moved[k] += step;
            return subspace.Decode(moved, scales[row]).Values.Select((v, i) => (double)v * dPrompts[row * Elements + i]).Sum();
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void AFileBringsItBackBitForBit(string kind)
    {
        using PromptSubspace subspace = Create(kind);
        string path = Path.Combine(_folder, "subspace.safetensors");
        subspace.Save(path);
        using PromptSubspace back = PromptSubspace.Load(_device, path);
        Assert.Equal(subspace.GetType(), back.GetType());
        Assert.Equal(subspace.Header.ToJson(), back.Header.ToJson());
        Assert.Equal(Model, back.Header.Model);
        float[] z = Normal(Intrinsic, 5);
        Assert.Equal(subspace.Decode(z).Values, back.Decode(z).Values);
        if (subspace.CanEncode)
        {
            var prompt = new Prompt(Normal(Elements, 6), Length, Width);
            Assert.Equal(subspace.Encode(prompt), back.Encode(prompt));
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void ARowDoesNotDependOnItsNeighbours(string kind)
    {
        using PromptSubspace subspace = Create(kind);
        float[] z = Normal(5 * Intrinsic, 7);
        using DeviceBuffer tz = Upload(z), prompts = Upload(new float[5 * Elements]);
        subspace.Decode(tz.Tensor, 5, prompts.Tensor);
        float[] all = prompts.Tensor.ToArray<float>();
        for (int r = 0; r < 5; r++)
            Assert.Equal(subspace.Decode(z.AsSpan(r * Intrinsic, Intrinsic)).Values, all[(r * Elements)..((r + 1) * Elements)]);
    }

    [Theory]
    [InlineData("random-linear")]
    [InlineData("fastfood")]
    public void ARandomPromptOfUnitNormalsHasTheScaleOfItsStandardisation(string kind)
    {
        SubspaceHeader header = Header with { PromptLength = 20, DModel = 50, InnerDim = 0, Standardisation = new PromptStandardisation { Kind = StandardisationKind.Global, Scale = 30 } };
        var origin = new Prompt(Normal(1000, 8), 20, 50);
        using PromptSubspace subspace = kind == "fastfood" ? FastfoodSubspace.Create(_device, header, 3, origin) : LinearSubspace.CreateRandom(_device, header, 3, origin);
        double squares = 0;
        for (int i = 0; i < 50; i++)
            squares += subspace.Decode(Normal(Intrinsic, 100 + i)).Values.Select((v, k) => (double)(v - origin.Values[k]) * (v - origin.Values[k])).Average();
        // 50 vectors of 4 normals: chi-square with 200 degrees of freedom, 7 % of its square root; four of them and the matrix's own.
        Assert.InRange(Math.Sqrt(squares / 50), 30 * 0.75, 30 * 1.3);
        Assert.All(origin.Values.Zip(subspace.Decode(new float[Intrinsic]).Values), p => Assert.Equal(p.First, p.Second, 1e-4f));
        Assert.False(subspace.CanEncode);
        Assert.Contains($"a {kind} subspace only maps from z to prompts", Assert.Throws<NotSupportedException>(() => subspace.Encode(origin)).Message);
    }

    [Theory]
    [InlineData("random-linear")]
    [InlineData("fastfood")]
    [InlineData("tanh")]
    public void TheSeedMakesIt(string kind)
    {
        float[] z = Normal(Intrinsic, 9);
        using PromptSubspace a = Create(kind, 1), b = Create(kind, 1), c = Create(kind, 2);
        Assert.Equal(a.Decode(z).Values, b.Decode(z).Values);
        Assert.NotEqual(a.Decode(z).Values, c.Decode(z).Values);
        Assert.False(a.Header.Trained);
        Assert.Equal(1, a.Header.Seeds["init"]);
    }

    [Fact]
    public void PcaRebuildsPromptsOfItsSpanAndItsVectorsHaveVarianceOne()
    {
        // Prompts in a 4-dimensional affine space, per-task scales far apart.
        float[] mean = Normal(Elements, 1), directions = Normal(Intrinsic * Elements, 2), mixes = Normal(9 * Intrinsic, 3);
        var prompts = new Dictionary<string, IReadOnlyList<Prompt>>();
        for (int t = 0; t < 9; t++)
        {
            float[] values = [.. mean.Select((m, i) => m + Enumerable.Range(0, Intrinsic).Sum(k => mixes[t * Intrinsic + k] * directions[k * Elements + i]))];
            prompts[$"task{t}"] = [new Prompt(values, Length, Width)];
        }
        using LinearSubspace subspace = LinearSubspace.CreatePca(_device, Header with { Standardisation = new PromptStandardisation { Kind = StandardisationKind.Global, Scale = 3 } }, prompts);
        float[][] z = [.. prompts.OrderBy(p => p.Key).Select(p => subspace.Encode(p.Value[0]))];
        for (int t = 0; t < 9; t++)
        {
            float[] rebuilt = subspace.Decode(z[t]).Values;
            Assert.All(rebuilt.Zip(prompts[$"task{t}"][0].Values), p => Assert.Equal(p.Second, p.First, 2e-4f));
        }
        for (int k = 0; k < Intrinsic; k++)
        {
            Assert.Equal(0, z.Average(v => v[k]), 1e-4);
            Assert.Equal(1, z.Sum(v => (double)v[k] * v[k]) / 8, 1e-3);
        }
        Assert.Equal(9, subspace.Header.SourceTasks.Count);
        Assert.StartsWith(
            "principal components of prompts: intrinsic_dim is 6, expected at most 4: the 9 prompts span no more.",
            Assert.Throws<ArgumentException>(() => LinearSubspace.CreatePca(_device, Header with { IntrinsicDim = 6 }, prompts)).Message);
        Assert.StartsWith(
            "principal components of prompts: intrinsic_dim is 9, expected at most 8, one less than the 9 prompts.",
            Assert.Throws<ArgumentException>(() => LinearSubspace.CreatePca(_device, Header with { IntrinsicDim = 9 }, prompts)).Message);
        Assert.StartsWith(
            "principal components of prompts: found 1 training task ('task0'), expected at least 2.",
            Assert.Throws<ArgumentException>(() => LinearSubspace.CreatePca(_device, Header, new Dictionary<string, IReadOnlyList<Prompt>> { ["task0"] = prompts["task0"] })).Message);
    }

    [Fact]
    public void ThePictureOfVectorsKeepsTheirDistances()
    {
        float[][] rows = [.. Enumerable.Range(0, 6).Select(i => Normal(3, i))];
        PrincipalComponents components = PrincipalComponents.Fit(rows, 3);
        for (int a = 0; a < 6; a++)
        {
            for (int b = 0; b < a; b++)
            {
                double expected = rows[a].Zip(rows[b], (x, y) => ((double)x - y) * ((double)x - y)).Sum();
                Assert.Equal(expected, components.Coordinates[a].Zip(components.Coordinates[b], (x, y) => (x - y) * (x - y)).Sum(), 1e-5);
            }
        }
        Assert.Equal(1, components.Shares.Sum(), 1e-6);
        Assert.True(components.Deviations[0] >= components.Deviations[1] && components.Deviations[1] >= components.Deviations[2]);
        Assert.Contains("found 6 components of 6 rows, expected 1 to 5", Assert.Throws<ArgumentException>(() => PrincipalComponents.Fit(rows, 6)).Message);
    }

    [Fact]
    public void ScalesComeFromThePrompts()
    {
        IReadOnlyDictionary<string, IReadOnlyList<Prompt>> prompts = new Dictionary<string, IReadOnlyList<Prompt>>
        {
            ["small"] = [new Prompt([1, -1, 1, -1], 2, 2)],
            ["large"] = [new Prompt([10, 10, -10, 10], 2, 2), new Prompt([30, 30, 30, -30], 2, 2)],
        };
        Assert.Equal(PromptStandardisation.None, PromptStandardisation.Fit(StandardisationKind.None, prompts));
        Assert.Equal(Math.Sqrt((1 + 100 + 900) / 3.0), PromptStandardisation.Fit(StandardisationKind.Global, prompts).Scale, 1e-5);
        PromptStandardisation task = PromptStandardisation.Fit(StandardisationKind.Task, prompts);
        Assert.Equal(1, task.ScaleOf("small"));
        Assert.Equal(Math.Sqrt(500), task.ScaleOf("large"), 1e-5);
        Assert.Equal(Math.Sqrt(Math.Sqrt(500)), task.ScaleOf("unseen"), 1e-5);
        Assert.Equal(7, task.ScaleOf(new Prompt([7, -7], 1, 2)), 1e-5);
        Assert.Contains("those of task 'zero' have a sum of squares of 0 over 2 numbers",
            Assert.Throws<ArgumentException>(() => PromptStandardisation.Fit(StandardisationKind.Task, new Dictionary<string, IReadOnlyList<Prompt>> { ["zero"] = [new Prompt([0, 0], 1, 2)] })).Message);
    }

    [Fact]
    public void AnotherModelOrLengthIsRefusedByNameAndNumber()
    {
        SubspaceHeader header = Header;
        header.RequireFits("s.safetensors", Model, Width, Length);
        Assert.Equal(
            "s.safetensors: the subspace maps to prompts of 3 tokens, the run's prompts have 20. Set prompt_length to 3, or find a subspace for 20.",
            Assert.Throws<InvalidDataException>(() => header.RequireFits("s.safetensors", Model, Width, 20)).Message);
        Assert.Equal(
            "s.safetensors: the subspace of model 'tiny' has d_model=7, model 'base' has d_model=768. A subspace fits only the checkpoint whose prompts it was found from.",
            Assert.Throws<InvalidDataException>(() => header.RequireFits("s.safetensors", new ModelIdentity("base", "f"), 768, Length)).Message);
        Assert.Equal(
            "s.safetensors: the subspace is of model 'tiny' (fingerprint 0123456789ab), the run uses 'twin' (fingerprint ffff). A subspace fits only the checkpoint whose prompts it was found from.",
            Assert.Throws<InvalidDataException>(() => header.RequireFits("s.safetensors", new ModelIdentity("twin", "ffff"), Width, Length)).Message);
    }

    [Fact]
    public void SizesThatMakeNoSubspaceAreRefused()
    {
        Assert.Equal("subspace: intrinsic_dim is 0, expected 1 to prompt_length * d_model = 3 * 7 = 21.", Refusal(Header with { IntrinsicDim = 0 }));
        Assert.Equal("subspace: intrinsic_dim is 22, expected 1 to prompt_length * d_model = 3 * 7 = 21.", Refusal(Header with { IntrinsicDim = 22 }));
        Assert.Equal("subspace: inner_dim is 0, expected 1 or more.", Refusal(Header with { InnerDim = 0 }));
        Assert.Equal("subspace: source_tasks names a task twice (a, a), expected each once.", Refusal(Header with { SourceTasks = ["a", "a"] }));
        Assert.Equal("subspace: the scale is -1, expected a finite number above 0.", Refusal(Header with { Standardisation = new PromptStandardisation { Scale = -1 } }));
        using AutoencoderSubspace one = AutoencoderSubspace.Create(_device, Header with { SourceTasks = ["a"] }, 1);
        Assert.StartsWith(
            "multi-task subspace finding: found 1 training task ('a'), expected at least 2.",
            Assert.Throws<ArgumentException>(() => new MsfStep(one, new MsfObjective(), new AdamWOptions())).Message);
        using AutoencoderSubspace two = AutoencoderSubspace.Create(_device, Header, 1);
        Assert.Contains("both distillation and reconstruction are off",
            Assert.Throws<ArgumentException>(() => new MsfStep(two, new MsfObjective { Distillation = false, Reconstruction = false }, new AdamWOptions())).Message);

        string Refusal(SubspaceHeader header) => Assert.Throws<ArgumentException>(() => AutoencoderSubspace.Create(_device, header, 1)).Message;
    }

    [Fact]
    public void DamagedFilesAreNamed()
    {
        using PromptSubspace subspace = Create("tanh");
        string path = Path.Combine(_folder, "s.safetensors");
        string json = subspace.Header.ToJson();
        Write(json.Replace("\"intrinsic_dim\":4", "\"intrinsic_dim\":99", StringComparison.Ordinal));
        Assert.Equal($"{path}: subspace: intrinsic_dim is 99, expected 1 to prompt_length * d_model = 3 * 7 = 21.", Refusal());
        Write(json.Replace("\"intrinsic_dim\":4", "\"intrinsic_dim\":5", StringComparison.Ordinal));
        Assert.Contains("tensor 'W1.weight' has shape [4, 21], the subspace's W1.weight is [5, 21]", Refusal());
        Write(json.Replace("\"inner_dim\":6", "\"inner_dim\":600000", StringComparison.Ordinal));
        Assert.Contains("tensor 'W3.weight' has shape [21, 6], the header implies 12600000 elements", Refusal());
        Write(json.Replace("\"format_version\":1", "\"format_version\":2", StringComparison.Ordinal));
        Assert.Equal($"{path}: reading a subspace; its format_version is 2, this program reads up to 1. Use a newer iptnative.", Refusal());
        Write(json.Replace("\"trained\"", "\"trayned\"", StringComparison.Ordinal));
        Assert.Contains("its header is broken", Refusal());
        Write("[]");
        Assert.Equal($"{path}: reading a subspace; its header's format is not 'iptnative-subspace'.", Refusal());
        new SafetensorsWriter().Add("W1", new TensorShape(1), new float[1]).Save(path);
        Assert.Contains("found no 'iptnative_subspace' in its metadata", Refusal());

        using FastfoodSubspace fastfood = FastfoodSubspace.Create(_device, Header with { InnerDim = 0 }, 1);
        fastfood.Tensors.Single(t => t.Name == "permutation").Value.Slice(0, 1).CopyFrom<int>([77]);
        fastfood.Save(path);
        Assert.Equal($"{path}: tensor 'permutation' holds 77 at 0, expected each of 0 to 31 once. Make the subspace again.", Refusal());

        void Write(string header)
        {
            SafetensorsWriter writer = new SafetensorsWriter().WithMetadata("iptnative_subspace", header);
            foreach ((string name, TensorShape shape, Tensor value) in subspace.Tensors)
                writer.Add(name, shape, value.ToArray<float>());
            writer.Save(path);
        }

        string Refusal() => Assert.Throws<InvalidDataException>(() => PromptSubspace.Load(_device, path)).Message;
    }

    [Fact]
    public void IptsOwnNamesAreRead()
    {
        using AutoencoderSubspace subspace = (AutoencoderSubspace)Create("no bias");
        string path = Path.Combine(_folder, "ipt.safetensors");
        var writer = new SafetensorsWriter();
        foreach ((string name, TensorShape shape, Tensor value) in subspace.Tensors)
            writer.Add($"module.prompt_{name}", shape, value.ToArray<float>());
        writer.Add("model.encoder.prompt_embeddings.weight", new TensorShape(2, 2), new float[4]).Add("prompt_task.weight", new TensorShape(1, 4), new float[] { 1, 2, 3, 4 }).Save(path);
        using AutoencoderSubspace read = IptAutoencoderFile.Read(_device, path, Width, Model);
        Assert.Equal((Length, Intrinsic, 6), (read.Header.PromptLength, read.IntrinsicDim, read.Header.InnerDim));
        Assert.False(read.Header.ProjBias || read.Header.InnerBias || read.Header.OuterBias);
        float[] z = Normal(Intrinsic, 4);
        Assert.Equal(subspace.Decode(z).Values, read.Decode(z).Values);
        Assert.Equal([1, 2, 3, 4], IptAutoencoderFile.ReadIntrinsicVector(path));
        Assert.Contains("its prompts have 21 numbers, expected a multiple of d_model=8", Assert.Throws<InvalidDataException>(() => IptAutoencoderFile.Read(_device, path, 8)).Message);
        new SafetensorsWriter().Add("prompt_W1.weight", new TensorShape(1, 1), new float[1]).Save(path);
        Assert.Contains("found no 'prompt_W2.weight' (or 'W2.weight') among 1 tensors", Assert.Throws<InvalidDataException>(() => IptAutoencoderFile.Read(_device, path, 1)).Message);
    }

    [Fact]
    public void ACheckpointsIdentityIsItsWeights()
    {
        string golden = Path.Combine(TinyModel.Root, "tests", "Goldens", "t5v11");
        ModelIdentity Of(string file)
        {
            using Checkpoint checkpoint = Checkpoint.Open(Path.Combine(golden, file));
            return ModelIdentity.Of(checkpoint);
        }

        ModelIdentity identity = Of("model.safetensors");
        Assert.Equal(64, identity.Fingerprint.Length);
        Assert.Equal(identity.Fingerprint, Of("pytorch_model.bin").Fingerprint);
        Assert.Equal(identity.Fingerprint, Of("model_bf16.safetensors").Fingerprint);
        using Checkpoint other = Checkpoint.Open(TinyModel.Folder);
        Assert.NotEqual(identity.Fingerprint, ModelIdentity.Of(other).Fingerprint);
        Assert.Equal("t5-gym-tiny", ModelIdentity.Of(other).Name);
    }

    public void Dispose()
    {
        _device.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private PromptSubspace Create(string kind, long seed = 1)
    {
        SubspaceHeader plain = Header with { InnerDim = 0 };
        switch (kind)
        {
            case "random-linear": return LinearSubspace.CreateRandom(_device, plain, seed);
            case "fastfood": return FastfoodSubspace.Create(_device, plain, seed);
            case "pca":
                var prompts = new Dictionary<string, IReadOnlyList<Prompt>>();
                for (int t = 0; t < 6; t++)
                    prompts[$"t{t}"] = [new Prompt(Normal(Elements, 50 + t), Length, Width)];
                return LinearSubspace.CreatePca(_device, plain, prompts);
            case "no bias": return AutoencoderSubspace.Create(_device, Header with { ProjBias = false, InnerBias = false, OuterBias = false }, seed);
            default:
                return AutoencoderSubspace.Create(_device, Header with { InnerActivation = Enum.Parse<SubspaceActivation>(kind, ignoreCase: true), Standardisation = new PromptStandardisation { Kind = StandardisationKind.Global, Scale = 2 } }, seed);
        }
    }

    private DeviceBuffer Upload(float[] values)
    {
        DeviceBuffer buffer = _device.Allocate(DType.F32, values.Length, "test");
        buffer.Tensor.CopyFrom<float>(values);
        return buffer;
    }

    private static float[] Normal(int n, int seed)
    {
        var random = new SeededRandom(seed);
        return [.. Enumerable.Range(0, n).Select(_ => (float)random.NextNormal())];
    }
}
