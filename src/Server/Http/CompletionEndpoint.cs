// POST /v1/completions: from a checked request to an answer or a stream of parts. Deliberately not: routing, authorisation.
using System.Diagnostics;
using System.Text;
using IptNative.Model.Tokenizer;
using IptNative.Server.Prompts;
using IptNative.Server.Scheduling;
using Microsoft.AspNetCore.Http;

namespace IptNative.Server.Http;

/// <summary>Answers completion requests.</summary>
internal sealed class CompletionEndpoint(ServerOptions options, PromptLibrary prompts, T5Tokenizer tokenizer, int vocabSize, Scheduler scheduler, ServerMetrics metrics)
{
    private static readonly byte[] Data = Encoding.ASCII.GetBytes("data: ");
    private static readonly byte[] Blank = Encoding.ASCII.GetBytes("\n\n");
    private static readonly byte[] Done = Encoding.ASCII.GetBytes("data: [DONE]\n\n");

    public async Task Answer(HttpContext context)
    {
        byte[] body = await RequestBody.Read(context.Request, context.RequestAborted);
        long start = Stopwatch.GetTimestamp();
        CompletionRequest request = CompletionRequest.Parse(body, options);
        ServedPrompt prompt = prompts.Find(request.Model)
            ?? throw new ApiException(404, $"The prompt '{(request.Model.Length > 100 ? request.Model[..100] + "…" : request.Model)}' does not exist; GET /v1/models lists those that do.", "model", "model_not_found");
        var call = new CompletionCall();
        CompletionJob[] jobs = [.. request.Inputs.Select((input, i) => new CompletionJob(call, i, Ids(input, i, prompt), prompt, request.Options, request.Stop, request.LogProbs, request.Stream, tokenizer))];
        call.Opened(jobs.Sum(j => j.Texts));
        int inputTokens = jobs.Sum(j => j.Tokens);
        if (!scheduler.TryQueue(jobs))
        {
            if (scheduler.Failed.IsCompletedSuccessfully)
                throw Failure(scheduler.Failed.Result);
            // Each of those that wait takes about as long as one takes now, a batch at a time.
            double seconds = Math.Ceiling(metrics.MeanSeconds * (1 + scheduler.Waiting / options.MaxBatch));
            throw new ApiException(429, $"{scheduler.Waiting} texts wait already, and {options.MaxQueue} may. Try again later.", code: "queue_full") { RetryAfter = (int)Math.Clamp(seconds, 1, 60) };
        }
        try
        {
            var part = new Answering(context, request, call, "cmpl-" + Guid.NewGuid().ToString("N"), inputTokens);
            int generated = request.Stream ? await Stream(part) : await Whole(part);
            metrics.Completed(Stopwatch.GetElapsedTime(start), inputTokens, generated);
        }
        catch (Exception e) when (context.RequestAborted.IsCancellationRequested && e is OperationCanceledException or IOException)
        {
            metrics.Abandoned();
            throw;
        }
        finally
        {
            // The client has its answer, or has left: what still runs for it stops at the next step, and what waits makes room.
            bool left = !call.Events.Completion.IsCompleted;
            call.Abandon();
            if (left)
                scheduler.DropUnwanted();
        }
    }

    private sealed record Answering(HttpContext Context, CompletionRequest Request, CompletionCall Call, string Id, int InputTokens)
    {
        public DateTimeOffset Created { get; } = DateTimeOffset.UtcNow;

        public IAsyncEnumerable<ChoiceEvent> Events => Call.Events.ReadAllAsync(Context.RequestAborted);

        public int Choices => Request.Inputs.Count * Request.Options.NumReturnSequences;
    }

    private async Task<int> Whole(Answering answering)
    {
        int choices = answering.Choices;
        StringBuilder[] texts = [.. Enumerable.Range(0, choices).Select(_ => new StringBuilder())];
        List<ToldToken>[] tokens = [.. Enumerable.Range(0, choices).Select(_ => new List<ToldToken>())];
        string?[] finish = new string?[choices];
        int[] counts = new int[choices];
        try
        {
            await foreach (ChoiceEvent news in answering.Events)
            {
                texts[news.Choice].Append(news.Text);
                tokens[news.Choice].AddRange(news.Tokens);
                (finish[news.Choice], counts[news.Choice]) = (news.Finish, news.TokenCount);
            }
        }
        catch (Exception e) when (e is not OperationCanceledException || !answering.Context.RequestAborted.IsCancellationRequested)
        {
            throw Failure(e);
        }
        await Responses.Json(answering.Context, 200, CompletionJson.Object(json =>
        {
            CompletionJson.Head(json, answering.Id, answering.Created, answering.Request.Model);
            json.WriteStartArray("choices");
            for (int i = 0; i < choices; i++)
                CompletionJson.Choice(json, i, texts[i].ToString(), answering.Request.LogProbs is null ? null : tokens[i], finish[i], tokenizer);
            json.WriteEndArray();
            CompletionJson.Usage(json, answering.InputTokens, counts.Sum());
        }));
        return counts.Sum();
    }

    private async Task<int> Stream(Answering answering)
    {
        HttpResponse response = answering.Context.Response;
        response.ContentType = "text/event-stream; charset=utf-8";
        response.Headers.CacheControl = "no-store";
        // The client knows at once that it was heard, however long the queue is.
        await response.StartAsync(answering.Context.RequestAborted);
        await response.Body.FlushAsync(answering.Context.RequestAborted);
        int[] counts = new int[answering.Choices];
        try
        {
            await foreach (ChoiceEvent news in answering.Events)
            {
                counts[news.Choice] = news.TokenCount;
                await Send(response, Part(answering, json =>
                {
                    json.WriteStartArray("choices");
                    CompletionJson.Choice(json, news.Choice, news.Text, answering.Request.LogProbs is null ? null : news.Tokens, news.Finish, tokenizer);
                    json.WriteEndArray();
                    if (answering.Request.StreamUsage)
                        json.WriteNull("usage");
                }), answering.Context.RequestAborted);
            }
        }
        catch (Exception e) when (e is not OperationCanceledException and not IOException)
        {
            // The status has gone out long ago; the error is the last part, and [DONE] does not follow.
            await Send(response, CompletionJson.Error(Failure(e)), answering.Context.RequestAborted);
            return counts.Sum();
        }
        if (answering.Request.StreamUsage)
        {
            await Send(response, Part(answering, json =>
            {
                json.WriteStartArray("choices");
                json.WriteEndArray();
                CompletionJson.Usage(json, answering.InputTokens, counts.Sum());
            }), answering.Context.RequestAborted);
        }
        await response.Body.WriteAsync(Done, answering.Context.RequestAborted);
        await response.Body.FlushAsync(answering.Context.RequestAborted);
        return counts.Sum();
    }

    private static ReadOnlyMemory<byte> Part(Answering answering, Action<System.Text.Json.Utf8JsonWriter> write) => CompletionJson.Object(json =>
    {
        CompletionJson.Head(json, answering.Id, answering.Created, answering.Request.Model);
        write(json);
    });

    private static async Task Send(HttpResponse response, ReadOnlyMemory<byte> part, CancellationToken cancel)
    {
        byte[] whole = new byte[Data.Length + part.Length + Blank.Length];
        Data.CopyTo(whole, 0);
        part.Span.CopyTo(whole.AsSpan(Data.Length));
        Blank.CopyTo(whole, whole.Length - Blank.Length);
        await response.Body.WriteAsync(whole, cancel);
        await response.Body.FlushAsync(cancel);
    }

    private int[] Ids(CompletionInput input, int number, ServedPrompt prompt)
    {
        int[] ids;
        if (prompt.Prompt?.Template is { } template)
        {
            string words = input.Text ?? throw new ApiException(400, $"Input {number} is token ids, expected a text: '{prompt.Name}' has a template that texts are put into.", "prompt");
            var filled = new List<int>();
            bool cut;
            try
            {
                cut = template.Encode(tokenizer, words, options.MaxSourceLength, filled);
            }
            catch (ArgumentException e)
            {
                // The template itself does not suit this server; no text would.
                throw new ApiException(400, $"'{prompt.Name}' cannot be asked here. {e.Message}", "model", "template_unusable");
            }
            if (cut)
                throw new ApiException(400, $"Input {number} has more tokens than the {options.MaxSourceLength} that this server takes, the prompt's template included. Shorten it.", "prompt", "context_length_exceeded");
            return [.. filled];
        }
        if (input.Text is { } text)
        {
            ids = tokenizer.Encode(text, addEos: true);
        }
        else
        {
            ids = input.Ids!; // a text or ids
            int wrong = Array.FindIndex(ids, id => id < 0 || id >= vocabSize);
            if (wrong >= 0)
                throw new ApiException(400, $"Input {number} has token {ids[wrong]} at {wrong}, expected 0 to {vocabSize - 1}.", "prompt");
            if (ids.Length == 0 || ids[^1] != tokenizer.EosId)
                ids = [.. ids, tokenizer.EosId];
        }
        if (ids.Length > options.MaxSourceLength)
            throw new ApiException(400, $"Input {number} has {ids.Length} tokens, its end included; this server takes {options.MaxSourceLength}. Shorten it.", "prompt", "context_length_exceeded");
        // A prompt by itself is something to answer; an end of sequence by itself is not.
        if (ids.Length == 1 && prompt.Prompt is null)
            throw new ApiException(400, $"Input {number} is empty, and '{prompt.Name}' is the bare model: there is nothing to answer. Give a text, or name a prompt.", "prompt");
        return ids;
    }

    private static ApiException Failure(Exception e) => e switch
    {
        OperationCanceledException => new ApiException(503, "The server is stopping; send the request again in a moment.", code: "stopping") { RetryAfter = 5 },
        InsufficientMemoryException => new ApiException(503, e.Message, code: "out_of_memory") { RetryAfter = 5 },
        ServerFailedException => new ApiException(503, $"The server has failed and is ending: {e.Message}", code: "server_failed"),
        InvalidDataException => new ApiException(500, e.Message, code: "not_finite"),
        _ => new ApiException(500, $"The model failed: {e.Message}", code: "model_failed"),
    };
}
