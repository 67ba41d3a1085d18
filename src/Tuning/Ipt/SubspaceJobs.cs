// The subspaces of an experiment: found, drawn or computed, stored as job results and read back. Deliberately not: what is asked of them.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Model.Backward;
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Prompts;
using IptNative.Tuning.Subspaces;
using IptNative.Tuning.Training;

namespace IptNative.Tuning.Ipt;

/// <summary>Makes and reads subspaces.</summary>
internal sealed class SubspaceJobs(IptModel model, ExperimentConfig config)
{
    /// <summary>Tensor of a subspace's job: the training tasks' own z, [tasks, d_I]; only where the subspace encodes.</summary>
    private const string SourceVectors = "source_z";

    /// <summary>Tensor of a Fastfood job: the prompt of z = 0. Its map is drawn again from its seed.</summary>
    private const string Origin = "origin";

    public JobResult Run(Job job, JobContext context, CancellationToken cancel)
    {
        MsfSection section = config.Msf;
        Prompt[] prompts = [.. job.Samples.Select(s => Best(job, s.Task, context))];
        string[] tasks = [.. job.Samples.Select(s => s.Task)];
        Dictionary<string, IReadOnlyList<Prompt>> byTask = tasks.Zip(prompts).ToDictionary(p => p.First, p => (IReadOnlyList<Prompt>)[p.Second], StringComparer.Ordinal);
        var header = new SubspaceHeader
        {
            Kind = SubspaceKind.Autoencoder,
            Model = model.Identity,
            PromptLength = job.PromptLength,
            DModel = model.DModel,
            IntrinsicDim = job.DI,
            Standardisation = PromptStandardisation.Fit(section.Standardise, byTask),
        };
        var curves = new TrainingCurves(1, section.Training.Steps, context.Progress);
        MsfOutcome? outcome = null;
        using PromptSubspace subspace = Make();
        if (subspace is AutoencoderSubspace space && job.Subspace == SubspaceMethod.Msf)
        {
            string folder = Path.Combine(context.WorkFolder, job.Hash[..16]);
            Directory.CreateDirectory(folder);
            var store = new BatchCheckpoint(folder, job.Hash, [MsfTraining.RunRow(section.Seed)], curves);
            StepPlan plan = model.Plan(section.Training, store.State);
            using GradientPass pass = model.Pass(section.Loss, plan);
            MsfTask[] training = [.. job.Samples.Select((s, t) => new MsfTask(s.Task, prompts[t], model.Encode(s, "train", section.Training), model.Encode(s, "dev", section.Training)))];
            var loss = new PromptLoss(pass, MsfTraining.Groups(section, tasks.Length), section.Loss.Reduction, plan.Limit);
            using var msf = new MsfTraining(space, training, section, loss, model.Evaluator, model.Evaluation, model.Device) { Remembered = plan.ToText() };
            outcome = msf.Run(store, curves, cancel);
        }
        if (outcome?.Failure is { } failure)
            return new JobResult { Failure = failure, Curve = curves.Of(0) };

        var tensors = new Dictionary<string, JobTensor>(StringComparer.Ordinal);
        if (subspace is FastfoodSubspace)
            tensors.Add(Origin, new JobTensor([job.PromptLength, model.DModel], Start(job).Values));
        else
        {
            foreach ((string name, TensorShape shape, Tensor value) in subspace.Tensors)
                tensors.Add(name, new JobTensor([.. shape.Dims], value.ToArray<float>()));
        }
        if (subspace.CanEncode)
            tensors.Add(SourceVectors, new JobTensor([tasks.Length, job.DI], [.. tasks.Zip(prompts).SelectMany(p => subspace.Encode(p.Second, subspace.Header.Standardisation.ScaleOf(p.First)))]));
        return new JobResult
        {
            Scores = outcome is null ? new Dictionary<string, double>() : new Dictionary<string, double> { [JobResult.Dev] = outcome.Best },
            Curve = curves.Of(0),
            Tensors = tensors,
            Notes = new Dictionary<string, string> { [SubspaceFile.HeaderKey] = subspace.Header.ToJson() },
        };

        PromptSubspace Make() => job.Subspace switch
        {
            SubspaceMethod.Msf => AutoencoderSubspace.Create(model.Device, Layers() with { SourceTasks = tasks }, job.Seed),
            SubspaceMethod.RandomPrompt => AutoencoderSubspace.Create(model.Device, Layers(), job.Seed),
            SubspaceMethod.RandomLinear => LinearSubspace.CreateRandom(model.Device, header, job.Seed, Start(job)),
            SubspaceMethod.Fastfood => FastfoodSubspace.Create(model.Device, header, job.Seed, Start(job)),
            _ => LinearSubspace.CreatePca(model.Device, header, byTask),
        };

        SubspaceHeader Layers() => header with { InnerDim = section.DInner, InnerActivation = section.Activation };
    }

    /// <summary>A stored subspace, checked to be for this model and prompt length.</summary>
    /// <exception cref="InvalidDataException">The file is damaged, or for another model or length.</exception>
    public PromptSubspace Load(StoredJob stored, int promptLength)
    {
        if (!stored.Result.Notes.TryGetValue(SubspaceFile.HeaderKey, out string? json))
            throw new InvalidDataException($"{stored.Folder}: reading the subspace {stored.Job}; its result has no '{SubspaceFile.HeaderKey}'. Delete the folder to run the job again.");
        SubspaceHeader header = SubspaceHeader.Parse(json, stored.Folder);
        header.RequireFits(stored.Folder, model.Identity, model.DModel, promptLength);
        if (header.Kind != SubspaceKind.Fastfood)
            return PromptSubspace.Load(model.Device, stored.TensorPath);
        return FastfoodSubspace.Create(model.Device, header, header.Seeds["init"], new Prompt(JobStore.ReadTensor(stored, Origin).Values, header.PromptLength, header.DModel));
    }

    /// <summary>The mean of the training tasks' z; null where the subspace does not encode.</summary>
    public static float[]? MeanVector(StoredJob stored, PromptSubspace subspace)
    {
        if (!subspace.CanEncode || subspace.Header is { Kind: SubspaceKind.Autoencoder, Trained: false })
            return null;
        float[] all = JobStore.ReadTensor(stored, SourceVectors).Values;
        int d = subspace.IntrinsicDim, tasks = all.Length / d;
        return [.. Enumerable.Range(0, d).Select(k => (float)Enumerable.Range(0, tasks).Average(t => (double)all[(t * d) + k]))];
    }

    /// <summary>The trained prompt that stands for a task: of all its seeds the best by dev score, the first on a tie. A run that failed is none.</summary>
    /// <exception cref="InvalidDataException">There is none: never noise in its place.</exception>
    public static Prompt Best(Job job, string task, JobContext context)
    {
        StoredJob? best = null;
        foreach (StoredJob run in job.InputsOf(JobNames.Prompt).Where(k => k.Split('/')[1] == task).Select(context.Input))
        {
            if (run.Result.Failure is null && (best is null || DevOf(run) > DevOf(best)))
                best = run;
        }
        if (best is null)
            throw new InvalidDataException($"{job.Key}: no trained prompt of task {task} is there, expected at least one run that did not fail. Lower prompt_tuning.optimizer.learning_rate, or leave the task out.");
        JobTensor prompt = JobStore.ReadTensor(best, JobResult.PromptTensor);
        return new Prompt(prompt.Values, checked((int)prompt.Shape[0]), checked((int)prompt.Shape[1]));

        static double DevOf(StoredJob run) => run.Result.Scores.TryGetValue(JobResult.Dev, out double dev) && !double.IsNaN(dev) ? dev : double.NegativeInfinity;
    }

    /// <summary>Random maps go out from a prompt that prompt tuning could start from: about zeros, most directions do nothing.</summary>
    private Prompt Start(Job job) => new PromptInitialiser(model.Checkpoint, model.Tokenizer).Create(
        new PromptInitialisation { Kind = PromptInitialisationKind.SampledVocabulary, Length = job.PromptLength, VocabularySize = config.PromptTuning.Prompt.VocabPieces }, job.Seed).Prompt;
}
